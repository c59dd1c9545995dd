"""Being asked in OpenAI's Responses dialect: its requests in our words, our answers, streams and errors in its.

Nothing is stored here: who asks sends the whole conversation each time.
"""

from __future__ import annotations

import time
from typing import Any

import attrs
import orjson

from uait.errors import APIError
from uait.llm.dialects.fields import Fields, original
from uait.llm.dialects.openai_chat import read_function
from uait.llm.messages import (
    Chunk,
    Collected,
    GenerateRequest,
    Image,
    Message,
    OtherPart,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from uait.storage.ids import new_id

_PASSED_ON = ("user", "seed", "service_tier", "parallel_tool_calls", "prompt_cache_key", "safety_identifier")
_ONLY_HERE = {"truncation": "disabled", "max_tool_calls": None}
"""Parameters that no other dialect has, each with what goes without saying."""
_FILE = ("file_data", "filename")
_ECHOED = ("instructions", "max_output_tokens", "temperature", "top_p", "tools", "tool_choice", "metadata", "user")

LAST = 2**31 - 1
"""A sequence number above that of every event before, where nobody knows how many there were."""


@attrs.frozen
class ResponsesRequest:
    """A request to `/v1/responses`. `echo` is what the answer repeats of it."""

    question: GenerateRequest
    echo: dict[str, Any]


def parse_request(data: Any) -> ResponsesRequest:
    """Read a request's JSON.

    Raises:
        ValidationFailed: with every problem.
    """
    fields = Fields(data)
    for key, instead in (
        ("previous_response_id", "responses are not kept here: send the whole conversation in 'input'"),
        ("conversation", "responses are not kept here: send the whole conversation in 'input'"),
        ("prompt", "stored prompts are not kept here: send 'instructions' and 'input'"),
    ):
        if key in fields:
            fields.wrong(key, instead)
    if fields.flag("background"):
        fields.wrong("background", "must be false: stay for the answer, or use POST /chat")
    instructions = fields.text("instructions")
    reasoning = fields.child("reasoning")
    effort = reasoning.text("effort") if reasoning else None
    extra = {key: fields.data[key] for key in _PASSED_ON if key in fields}
    extra |= _written(fields)
    for key, usual in _ONLY_HERE.items():
        if fields.data.get(key) not in (None, usual):
            fields.only_here(key)
    question = GenerateRequest(
        model=fields.text("model") or "",
        messages=(
            *((Message("system", (Text(instructions),)),) if instructions else ()),
            *_input(fields),
        ),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        max_tokens=fields.count("max_output_tokens"),
        tools=fields.each("tools", _tool),
        tool_choice=_tool_choice(fields),
        response_format=_format(fields),
        stream=fields.flag("stream"),
        extra=extra | ({"reasoning_effort": effort} if effort else {}),
    )
    fields.check()
    question = attrs.evolve(question, original=original("openai-responses", fields))
    return ResponsesRequest(question, {key: fields.data.get(key) for key in _ECHOED})


def _input(fields: Fields) -> tuple[Message, ...]:
    given = fields.data.get("input")
    if isinstance(given, str):
        return (Message("user", (Text(given),)),)
    turns: list[Message] = []
    for item in fields.items("input", required=True):
        turn = _item(item)
        if turn is None:
            continue
        before = turns[-1] if turns else None
        if turn.tool_calls and before is not None and before.role == "assistant":
            # Their calls are items of their own; everywhere else they belong to the assistant's turn.
            turns[-1] = attrs.evolve(before, tool_calls=before.tool_calls + turn.tool_calls)
        else:
            turns.append(turn)
    return tuple(turns)


def _item(fields: Fields) -> Message | None:
    match fields.text("type", "message"):
        case "message":
            role = fields.required_text("role")
            if role not in ("user", "assistant", "system", "developer"):
                fields.wrong("role", "must be user, assistant, system or developer")
            content = fields.data.get("content")
            parts: tuple[Part, ...]
            parts = (Text(content),) if isinstance(content, str) else fields.each("content", _part, required=True)
            return Message("user" if role == "user" else "assistant" if role == "assistant" else "system", parts)
        case "function_call":
            arguments = fields.text("arguments") or "{}"
            call = ToolCall(fields.required_text("call_id"), fields.required_text("name"), arguments)
            return Message("assistant", tool_calls=(call,))
        case "function_call_output":
            output = fields.data.get("output")
            parts = (Text(output),) if isinstance(output, str) else fields.each("output", _part, required=True)
            return Message("tool", parts, tool_call_id=fields.required_text("call_id"))
        case "reasoning":
            return None  # the model's own notes; only who wrote them could read them
        case kind:
            fields.only_here(f"items of the type {kind!r}")
            return None


def _part(fields: Fields) -> Part:
    match fields.required_text("type"):
        case "input_text" | "output_text" | "text":
            return Text(fields.required_text("text"))
        case "refusal":
            return Text(fields.required_text("refusal"))
        case "input_image":
            if "file_id" in fields:
                fields.only_here("files kept there")
                return Text("")
            return Image(fields.required_text("image_url"), fields.text("detail"))
        case "input_file" if "file_data" in fields:
            return OtherPart({"type": "file", "file": {k: v for k, v in fields.data.items() if k in _FILE and v}})
        case "input_audio":
            return OtherPart(fields.data)
        case kind:
            fields.only_here(f"parts of the type {kind!r}")
            return Text("")


def _written(fields: Fields) -> dict[str, Any]:
    """How the text is to be written, under the names of Chat Completions."""
    more: dict[str, Any] = {}
    text = fields.child("text")
    if text is not None and "verbosity" in text:
        more["verbosity"] = text.text("verbosity")
    top = fields.count("top_logprobs", low=0)
    if top or "message.output_text.logprobs" in fields.texts("include"):
        more["logprobs"] = True
    if top:
        more["top_logprobs"] = top
    return more


def _tool(fields: Fields) -> Tool:
    kind = fields.required_text("type")
    if kind not in ("function", ""):
        fields.only_here(f"tools of the type {kind!r}")
        return Tool(kind)
    return read_function(fields)


def _tool_choice(fields: Fields) -> ToolChoice | None:
    match fields.data.get("tool_choice"):
        case None:
            return None
        case "auto" | "none" | "required" as mode:
            return ToolChoice(mode)
        case {"type": "function", "name": str(name)}:
            return ToolChoice("named", name)
        case {"type": str(kind)}:
            fields.only_here(f"a choice of the type {kind!r}")
            return None
        case _:
            fields.wrong("tool_choice", "must be auto, none, required, or name a function")
            return None


def _format(fields: Fields) -> dict[str, Any] | None:
    text = fields.child("text")
    chosen = text.child("format") if text else None
    if chosen is None:
        return None
    kind = chosen.required_text("type")
    if kind != "json_schema":
        return {"type": kind}
    return {"type": kind, "json_schema": {key: value for key, value in chosen.data.items() if key != "type"}}


def render_usage(usage: Usage) -> dict[str, Any]:
    """A `usage` object; one that is a guess says so."""
    body: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
    return body | {"estimated": True} if usage.estimated else body


class ResponseWriter:
    """One response on its way: whole with `answer`, or as events, each ready for the wire."""

    def __init__(self, request: ResponsesRequest, model: str) -> None:
        self._sequence = 0
        self._passed = False
        self._collected = Collected()
        self._items: list[_Item] = []
        self._head = {
            "id": f"resp_{new_id()}",
            "object": "response",
            "created_at": int(time.time()),
            "error": None,
            "incomplete_details": None,
            "model": model,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            **request.echo,
            "tools": request.echo.get("tools") or [],
            "tool_choice": request.echo.get("tool_choice") or "auto",
            "metadata": request.echo.get("metadata") or {},
        }

    def answer(self, answer: Collected, usage: Usage) -> dict[str, Any]:
        """The whole response."""
        self._collected = answer
        self._take(Chunk(answer.text, answer.reasoning, answer.refusal))
        self._items += [_Item("function_call", call.id, call.name, [call.arguments]) for call in answer.tool_calls]
        return self._finished(usage)

    def start(self) -> bytes:
        """The first events."""
        response = {**self._head, "status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def chunk(self, chunk: Chunk) -> bytes:
        """The events of one step; b"" where it says nothing."""
        if chunk.raw is not None:
            self._sequence += 1
            self._passed = True
            return chunk.raw
        self._collected.finish = chunk.finish or self._collected.finish
        return self._take(chunk)

    def end(self, usage: Usage) -> bytes:
        """The last events."""
        if self._passed:
            return b""
        events = b"".join(self._close(place) for place in range(len(self._items)))
        response = self._finished(usage)
        return events + self._event(f"response.{response['status']}", response=response)

    def failed(self, error: APIError) -> bytes:
        """The last events of a stream that an error ends."""
        code, message = error.error_code.lower(), error.text
        output = [item.render("incomplete") for item in self._items]
        told = {"code": "server_error" if error.http_status >= 500 else code, "message": message}
        response = {**self._head, "status": "failed", "error": told, "output": output, "usage": None}
        begun = b"" if self._sequence else self.start()
        return (
            begun
            + self._event("error", code=code, message=message, param=None)
            + self._event("response.failed", response=response)
        )

    def _finished(self, usage: Usage) -> dict[str, Any]:
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self._collected.finish or "")
        return {
            **self._head,
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [item.render("completed") for item in self._items],
            "usage": render_usage(usage),
        }

    def _take(self, chunk: Chunk) -> bytes:
        events = b""
        if chunk.reasoning:
            events += self._append("reasoning", chunk.reasoning)
        if chunk.text:
            events += self._append("message", chunk.text)
        if chunk.refusal:
            events += self._append("refusal", chunk.refusal)
        for call in chunk.tool_calls:
            # Several may be written at once; each event says which it belongs to.
            place = next((n for n, item in enumerate(self._items) if item.call == call.index), None)
            if place is None:
                item = _Item("function_call", call.id, call.name, call=call.index)
                events += self._open(item)
                place = len(self._items) - 1
            self._items[place].parts.append(call.arguments)
            if call.arguments:
                events += self._at(place, "response.function_call_arguments.delta", delta=call.arguments)
        return events

    def _append(self, kind: str, text: str) -> bytes:
        events = b""
        if not self._items or self._items[-1].kind != kind:
            events = self._open(_Item(kind))
        place = len(self._items) - 1
        item = self._items[place]
        item.parts.append(text)
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        return events + self._at(place, f"response.{item.part_name}.delta", content_index=0, delta=text, **more)

    def _open(self, item: _Item) -> bytes:
        """Begin an item; the one before it, unless it is a call that may go on, is complete."""
        events = b""
        if self._items and self._items[-1].kind != "function_call":
            events = self._close(len(self._items) - 1)
        self._items.append(item)
        place = len(self._items) - 1
        empty = {**item.render("in_progress"), "content": []}
        if item.kind == "function_call":
            empty = {**item.render("in_progress"), "arguments": ""}
        events += self._event("response.output_item.added", output_index=place, item=empty)
        if item.kind != "function_call":
            events += self._at(place, "response.content_part.added", content_index=0, part=item.part())
        return events

    def _close(self, place: int) -> bytes:
        item = self._items[place]
        if item.closed:
            return b""
        item.closed = True
        if item.kind == "function_call":
            arguments = item.text or "{}"
            events = self._at(place, "response.function_call_arguments.done", name=item.name, arguments=arguments)
        else:
            done: dict[str, Any] = {"refusal": item.text} if item.kind == "refusal" else {"text": item.text}
            more: dict[str, Any] = {"logprobs": []} if item.kind == "message" else {}
            events = self._at(place, f"response.{item.part_name}.done", content_index=0, **done, **more)
            events += self._at(place, "response.content_part.done", content_index=0, part=item.part())
        return events + self._event("response.output_item.done", output_index=place, item=item.render("completed"))

    def _at(self, place: int, type: str, **fields: Any) -> bytes:
        return self._event(type, item_id=self._items[place].id, output_index=place, **fields)

    def _event(self, type: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": type, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), data)


LAST_EVENTS = tuple(
    b"event: " + name for name in (b"response.completed", b"response.incomplete", b"response.failed", b"error")
)
"""What the last event of a stream begins with."""


def render_stream_error(error: APIError) -> bytes:
    """The last event of a stream that an error ends, for whoever hands it on and does not know the response."""
    data = {"type": "error", "code": error.error_code.lower(), "message": error.text, "param": None}
    return b"event: error\ndata: " + orjson.dumps({**data, "sequence_number": LAST}) + b"\n\n"


def _item_id(kind: str) -> str:
    return {"reasoning": "rs", "function_call": "fc"}.get(kind, "msg") + f"_{new_id()}"


@attrs.define
class _Item:
    """One item of the output. `call` is the index of a call while it is streamed."""

    kind: str
    call_id: str = ""
    name: str = ""
    parts: list[str] = attrs.field(factory=list)
    call: int | None = None
    closed: bool = False
    id: str = attrs.field(init=False, default=attrs.Factory(lambda self: _item_id(self.kind), takes_self=True))

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def part_name(self) -> str:
        return {"message": "output_text", "refusal": "refusal", "reasoning": "reasoning_text"}[self.kind]

    def part(self) -> dict[str, Any]:
        if self.kind == "message":
            return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}
        return {"type": self.part_name, "refusal" if self.kind == "refusal" else "text": self.text}

    def render(self, status: str) -> dict[str, Any]:
        body: dict[str, Any]
        if self.kind == "function_call":
            body = {"type": "function_call", "call_id": self.call_id, "name": self.name, "arguments": self.text or "{}"}
        elif self.kind == "reasoning":
            body = {"type": "reasoning", "summary": [], "content": [self.part()]}
        else:
            body = {"type": "message", "role": "assistant", "content": [self.part()]}
        return {"id": self.id, "status": status, **body}
