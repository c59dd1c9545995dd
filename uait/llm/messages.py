"""What is said to a model and what comes back, in words that belong to no vendor.

A conversation is `Message`s, a question is a `GenerateRequest`, an answer is a stream of `Chunk`s that `Collected` folds into one whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs
import orjson

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
Dialect: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic"]

FAILED = "The tool failed: "

CHARACTERS_A_TOKEN = 4
"""The rule of thumb behind every estimate; English prose comes near it, code and other scripts need more tokens."""


@attrs.frozen
class Text:
    """A piece of text."""

    text: str


@attrs.frozen
class Image:
    """A picture by its address, `https:` or `data:`. `detail` is how closely to look, where the provider knows that."""

    url: str
    detail: str | None = None


@attrs.frozen
class OtherPart:
    """Any other part (audio, files), in the words of OpenAI's Chat Completions."""

    data: Mapping[str, Any]


Part: TypeAlias = Text | Image | OtherPart


@attrs.frozen
class ToolCall:
    """The model asks for a tool. `arguments` is JSON text, as the model wrote it: it may be invalid."""

    id: str
    name: str
    arguments: str

    @property
    def input(self) -> dict[str, Any]:
        """The arguments for dialects that have an object there. What is no object is kept as text where somebody can see it."""
        try:
            value = orjson.loads(self.arguments or "{}")
        except orjson.JSONDecodeError:
            value = None
        return value if isinstance(value, dict) else {"invalid_arguments": self.arguments}


@attrs.frozen
class Message:
    """One turn.

    Attributes:
        tool_calls: what an assistant's turn asks for.
        tool_call_id: which call a tool's turn answers.
        failed: a tool's turn tells an error.
        thoughts: the model's own notes before an assistant's turn, as Anthropic's dialect has them: only who has signed them can read them.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    failed: bool = False
    thoughts: tuple[Mapping[str, Any], ...] = ()

    @property
    def plain(self) -> Message:
        """The turn for dialects that cannot say otherwise that a tool has failed."""
        return attrs.evolve(self, parts=(Text(FAILED), *self.parts), failed=False) if self.failed else self

    @property
    def text(self) -> str:
        """The text parts, put together."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def message(role: Role, text: str) -> Message:
    """A turn that is only text."""
    return Message(role, (Text(text),))


@attrs.frozen
class Tool:
    """A function the model may ask for. `parameters` is JSON Schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@attrs.frozen
class ToolChoice:
    """Whether tools are to be used. `name` goes with the mode `named`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


@attrs.frozen(kw_only=True)
class Original:
    """A request as its client wrote it, for a provider that speaks the same dialect: it can be handed on, instead of being said again in other words.

    Attributes:
        shown: the name of the model to answer with; empty for the provider's `name/model`.
        headers: those of the client's that belong to the dialect, by their names in lower case.
        needs: what no translation has; a provider of another dialect refuses it.
    """

    dialect: Dialect
    body: Mapping[str, Any]
    shown: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class GenerateRequest:
    """A question to one model of one provider.

    Attributes:
        model: the provider's own name of the model, without the provider's name before it.
        messages: the conversation, oldest first.
        memories: what the user once told and may matter here; providers of language models put it before the conversation as a system message.
        max_tokens: at most so many tokens of answer.
        stream: whether the answer is wanted as it is made. Where not, a provider may fetch it in one piece.
        total: seconds that the whole answer may take, where that is not as long as any other's.
        extra: further parameters under the names of OpenAI's Chat Completions, for providers that know them.
        original: the client's own words, where it spoke a dialect that providers speak, too.
    """

    model: str
    messages: tuple[Message, ...]
    memories: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: Mapping[str, Any] | None = None
    stream: bool = True
    total: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)
    original: Original | None = None

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation as a language model reads it, with the memories before it."""
        return (memories_message(self.memories), *self.messages) if self.memories else self.messages


@attrs.frozen
class Usage:
    """Tokens used. `estimated` says that the provider did not count and this is a guess from the text's length."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@attrs.frozen
class ToolCallDelta:
    """A fragment of the tool call at `index`: `id` and `name` come with its first one only, `arguments` fragments are to be joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


# Not frozen: a frozen class costs three times as much to make, and one is made for every token.
@attrs.define
class Chunk:
    """A step of an answer; most have one field set. Not to be changed once it is handed on. A failure is raised, it is never a chunk.

    Attributes:
        finish: why the answer ended; in the last chunk that says anything but `usage`.
        usage: counted so far; a later one replaces an earlier one.
        logprobs: as OpenAI gives them, passed through.
        raw: the provider's own event for this step, in the dialect of the request's `original`: to be sent in place of anything made of the other fields. Whoever hands chunks on hands on those, too, that have nothing else.
        body: the same, of an answer that was not streamed.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish: FinishReason | None = None
    usage: Usage | None = None
    logprobs: Any = None
    raw: bytes | None = None
    body: bytes | None = None

    @property
    def meaningful(self) -> bool:
        """Whether it carries some of the answer: an opened stream with a role and nothing else has not begun to answer."""
        return bool(self.text or self.reasoning or self.refusal or self.tool_calls or self.finish)


@attrs.define
class Collected:
    """An answer as far as it has come. Feed it with `add`. For `body` see `Chunk`."""

    finish: FinishReason | None = None
    usage: Usage | None = None
    body: bytes | None = None
    _logprobs: list[Any] = attrs.field(factory=list)
    _text: list[str] = attrs.field(factory=list)
    _reasoning: list[str] = attrs.field(factory=list)
    _refusal: list[str] = attrs.field(factory=list)
    _calls: dict[int, tuple[str, str, list[str]]] = attrs.field(factory=dict)

    def add(self, chunk: Chunk) -> None:
        if chunk.text:
            self._text.append(chunk.text)
        if chunk.reasoning:
            self._reasoning.append(chunk.reasoning)
        if chunk.refusal:
            self._refusal.append(chunk.refusal)
        for delta in chunk.tool_calls:
            self._calls.setdefault(delta.index, (delta.id, delta.name, []))[2].append(delta.arguments)
        if chunk.finish is not None:
            self.finish = chunk.finish
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.logprobs is not None:
            self._logprobs.append(chunk.logprobs)
        if chunk.body is not None:
            self.body = chunk.body

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    @property
    def refusal(self) -> str:
        return "".join(self._refusal)

    @property
    def logprobs(self) -> Any:
        """As of one chunk, those of all tokens together."""
        return _join_logprobs(self._logprobs)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls asked for, in order. Arguments that never came are an empty object."""
        return tuple(
            ToolCall(call_id, name, "".join(arguments) or "{}")
            for _, (call_id, name, arguments) in sorted(self._calls.items())
        )

    def counted(self, request: GenerateRequest) -> Usage:
        """The provider's usage, or an estimate that says so."""
        return self.usage or estimate_usage(request, self)


def _join_logprobs(pieces: Sequence[Any]) -> Any:
    if len(pieces) < 2 or not all(isinstance(piece, dict) for piece in pieces):
        return pieces[-1] if pieces else None
    joined: dict[str, Any] = {}
    for piece in pieces:
        for key, more in piece.items():
            known = joined.setdefault(key, [])
            if isinstance(more, list):
                known += more
    return joined


def estimate_tokens(characters: int) -> int:
    """A guess at how many tokens so many characters are."""
    return -(-characters // CHARACTERS_A_TOKEN)


def estimate_prompt_tokens(messages: Iterable[Message], tools: Iterable[Tool] = ()) -> int:
    """A guess at what a prompt costs: its characters over four, and a little for each turn. Pictures count nothing."""
    characters = turns = 0
    for turn in messages:
        turns += 1
        characters += len(turn.text) + sum(len(call.name) + len(call.arguments) for call in turn.tool_calls)
    for tool in tools:
        characters += len(tool.name) + len(tool.description or "") + len(str(tool.parameters or ""))
    return estimate_tokens(characters) + 3 * turns


def estimate_usage(request: GenerateRequest, answer: Collected) -> Usage:
    """A guess for an answer whose provider did not count, or was cut off before it did."""
    written = len(answer.text) + len(answer.reasoning) + len(answer.refusal)
    written += sum(len(call.name) + len(call.arguments) for call in answer.tool_calls)
    remembered = sum(len(memory) for memory in request.memories)
    return Usage(
        prompt_tokens=estimate_prompt_tokens(request.messages, request.tools) + estimate_tokens(remembered),
        completion_tokens=estimate_tokens(written),
        estimated=True,
    )


def memories_message(memories: Iterable[str]) -> Message:
    """The user's memories as the system message that a language model reads."""
    lines = "\n".join(f"- {memory}" for memory in memories)
    return message("system", f"What the user told earlier and may matter for this conversation:\n{lines}")
