"""Handing on: where a client and a provider speak the same dialect, the client's request goes to the provider and the provider's bytes to the client, and only the model's name is changed.

What passes is read all the same: for usage, for errors, and for what servers of this dialect do wrong, which is put right in the event where it stands.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson

from uait.llm import upstream
from uait.llm.dialects.openai_upstream import AnswerReader
from uait.llm.dialects.reading import child
from uait.llm.messages import Chunk, FinishReason, GenerateRequest, Original, ToolCallDelta
from uait.llm.sse import ServerSentEvent

# Only a key can match: inside a string its quotes would have a backslash before them.
_MODEL = re.compile(rb'("model"\s*:\s*)"(?:[^"\\]|\\.)*"')

_LISTED = re.compile(rb'"content"\s*:\s*\[')

LESSONS = 8
"""Tokens of one answer that are looked at for what they have in common; some servers put something random into each."""

_TEXT = re.compile(rb'"content"\s*:\s*("(?:[^"\\]|\\.)*")')


class Passed:
    """Makes the bytes for the client of what came: framed as it was, under the name of the model that the client knows."""

    def __init__(self, original: Original, provider: str, model: str) -> None:
        self._name = original.shown or f"{provider}/{model}"
        self._written = orjson.dumps(self._name)

    def event(self, event: ServerSentEvent) -> bytes:
        """One event of a stream."""
        data = self.renamed(event.data)
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        if event.event:
            return b"event: %b\ndata: %b\n\n" % (event.event.encode(), data)
        return b"data: %b\n\n" % data

    def renamed(self, data: bytes) -> bytes:
        """An event or a body with our name of the model in place of the provider's. What else is called so stays: a tool's arguments, a client's metadata."""
        found = _MODEL.search(data)
        if found is None:
            return data
        renamed = b"".join((data[: found.start()], found[1], self._written, data[found.end() :]))
        if b"{" not in data[1 : found.start()]:
            return renamed
        # It may stand in another object than it should.
        payload = orjson.loads(data)
        owner = _named(payload)
        if owner is None or owner["model"] == self._name:
            return data
        if _MODEL.search(data, found.end()):
            fitting = _named(orjson.loads(renamed))
            if fitting is None or fitting["model"] != self._name:
                owner["model"] = self._name
                return orjson.dumps(payload)
        return renamed


def _named(payload: Any) -> dict[str, Any] | None:
    """The object that tells which model answers: the answer itself, or what one of its events has of it."""
    if isinstance(payload, list):
        payload = payload[0]
    for owner in (payload, child(payload.get("message")), child(payload.get("response"))):
        if isinstance(owner.get("model"), str):
            return owner
    return None


class EventReader(ABC):
    """Reads one answer of a dialect whose last event says that it is the last one; see `Reader`.

    Args:
        passed: makes the bytes for a client that speaks this dialect itself.
        streamed: that client wants them as a stream.
    """

    def __init__(self, provider: str, passed: Passed | None = None, *, streamed: bool = True) -> None:
        self.done = False
        self.finish: FinishReason | None = None
        self._provider = provider
        self._passed = passed
        self._streamed = streamed

    def event(self, event: ServerSentEvent) -> Chunk | None:
        if not event.data:
            return None
        chunk = self._chunk(self._load(event.data))
        if self._passed is not None and self._streamed:
            chunk = chunk or Chunk()
            chunk.raw = self._passed.event(event)
        return chunk

    def end(self) -> Chunk | None:
        if not self.done:
            raise upstream.broken(self._provider, "ended its answer before it was complete")
        return None

    @abstractmethod
    def _load(self, data: bytes) -> dict[str, Any]:
        """An event's or a body's object. Raises where it is an error, or cannot be read."""

    @abstractmethod
    def _chunk(self, payload: dict[str, Any]) -> Chunk | None:
        """What one event says; sets `finish` and `done`."""

    def _with_body(self, chunk: Chunk, body: bytes) -> Chunk:
        """A whole answer, with the bytes for a client that wants it whole."""
        if self._passed is not None and not self._streamed:
            chunk.body = self._passed.renamed(body)
        return chunk


def pass_chat(provider: str, original: Original, request: GenerateRequest) -> tuple[dict[str, Any], PassedChatReader]:
    """The body for a server of Chat Completions, and who reads its answer.

    Usage is asked for in any case, and kept from a client that has not.
    """
    body = {**original.body, "model": request.model, "stream": request.stream}
    wanted = True
    if request.stream:
        options = original.body.get("stream_options")
        options = options if isinstance(options, Mapping) else {}
        wanted = bool(options.get("include_usage"))
        body["stream_options"] = {**options, "include_usage": True}
    return body, PassedChatReader(provider, Passed(original, provider, request.model), request.stream, wanted)


class PassedChatReader(AnswerReader):
    """Reads Chat Completions, and gives the bytes with it."""

    def __init__(self, provider: str, passed: Passed, streamed: bool, usage_wanted: bool) -> None:
        super().__init__(provider)
        self._passed = passed
        self._streamed = streamed
        self._usage_wanted = usage_wanted
        self._token: _Token | None = None
        self._lessons = LESSONS

    def event(self, event: ServerSentEvent) -> Chunk | None:
        if self._token is not None and (token := self._token.read(event)) is not None:
            return token
        chunk = super().event(event)
        if self.done or not event.data or not self._streamed:
            return chunk
        if chunk is None:
            return Chunk(raw=self._passed.event(event))
        if chunk.usage is not None and not chunk.meaningful and not self._usage_wanted:
            chunk.raw = b""
        elif chunk.tool_calls or chunk.finish or _LISTED.search(event.data):
            data = _put_right(event.data, "delta", chunk)
            chunk.raw = self._passed.event(ServerSentEvent(data, event.event) if data is not event.data else event)
        else:
            chunk.raw = self._passed.event(event)
            if self._lessons:
                self._lessons -= 1
                self._token = _Token.of(event, chunk, self._passed)
        return chunk

    def whole(self, body: bytes) -> Chunk:
        chunk = super().whole(body)
        if not self._streamed:
            chunk.body = self._passed.renamed(_put_right(body, "message", chunk))
        return chunk


class _Token:
    """A token of plain text as this answer's server writes it. Most others of the stream are the same but for the text, and then they need not be taken apart to be known."""

    __slots__ = ("_after", "_before", "_head", "_tail")

    def __init__(self, before: bytes, after: bytes, head: bytes, tail: bytes) -> None:
        self._before = before
        self._after = after
        self._head = head
        self._tail = tail

    @classmethod
    def of(cls, event: ServerSentEvent, chunk: Chunk, passed: Passed) -> _Token | None:
        """What `event`, read as `chunk`, has in common with other tokens; None where it is more than a token."""
        data = event.data
        found = _TEXT.search(data)
        if found is None or _TEXT.search(data, found.end()):
            return None
        before, after, sent = data[: found.start(1)], data[found.end(1) :], passed.renamed(data)
        if sent.endswith(after):
            head, tail = sent[: len(sent) - len(found[1] + after)], after
        else:
            head, tail = before, sent[len(before + found[1]) :]
        token = cls(before, after, b"data: " + head, tail + b"\n\n")
        return token if token.read(event) == chunk else None

    def read(self, event: ServerSentEvent) -> Chunk | None:
        """The token that `event` is; None where it is something else."""
        data = event.data
        if event.event or not (data.startswith(self._before) and data.endswith(self._after)):
            return None
        written = data[len(self._before) : len(data) - len(self._after)]
        try:
            text = orjson.loads(written)
        except orjson.JSONDecodeError:
            return None
        if not text or not isinstance(text, str):
            return None
        return Chunk(text, raw=self._head + written + self._tail)


def _put_right(data: bytes, field: str, chunk: Chunk) -> bytes:
    """The event with its text, tool calls and finish reason as they should be; the very same bytes where they are."""
    payload, changed = orjson.loads(data), False
    if isinstance(payload, list):  # some servers wrap what they say in one, see `load`
        payload, changed = payload[0], True
    choice = payload["choices"][0]
    told = choice.get(field)
    if isinstance(told, dict):
        if isinstance(told.get("content"), list):
            told["content"], changed = chunk.text, True
        theirs = told.get("tool_calls")
        if chunk.tool_calls and not _are_right(theirs, chunk.tool_calls, field):
            told["tool_calls"], changed = [_rendered(call, field) for call in chunk.tool_calls], True
    if chunk.finish is not None and choice.get("finish_reason") != chunk.finish:
        choice["finish_reason"], changed = chunk.finish, True
    return orjson.dumps(payload) if changed else data


def _are_right(theirs: Any, calls: tuple[ToolCallDelta, ...], field: str) -> bool:
    if not isinstance(theirs, list) or len(theirs) != len(calls):
        return False
    return all(_is_right(each, call, field) for each, call in zip(theirs, calls, strict=True))


def _is_right(theirs: Any, call: ToolCallDelta, field: str) -> bool:
    function = theirs.get("function") if isinstance(theirs, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments", ""), str):
        return False
    if field == "delta" and theirs.get("index") != call.index:
        return False
    return not call.id or theirs.get("id") == call.id


def _rendered(call: ToolCallDelta, field: str) -> dict[str, Any]:
    body: dict[str, Any] = {"index": call.index} if field == "delta" else {}
    if call.id:
        body |= {"id": call.id, "type": "function"}
    return body | {"function": ({"name": call.name} if call.name else {}) | {"arguments": call.arguments}}
