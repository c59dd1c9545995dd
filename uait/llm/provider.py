"""What a provider of models is: anything with these few methods."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

import attrs

from uait.errors import BadRequest
from uait.llm.messages import Chunk, Dialect, GenerateRequest, Image, OtherPart, Usage


class Capability(enum.StrEnum):
    """What a model, or every model of a provider, can do."""

    CHAT = "chat"
    STREAMING = "streaming"
    TOOLS = "tools"
    VISION = "vision"
    ATTACHMENTS = "attachments"
    JSON = "json"
    EMBEDDINGS = "embeddings"


@attrs.frozen
class Model:
    """A model as its provider lists it.

    Attributes:
        id: the provider's own name of it.
        created: Unix seconds, 0 where unknown.
    """

    id: str
    capabilities: tuple[Capability, ...] = (Capability.CHAT, Capability.STREAMING)
    context_length: int | None = None
    created: int = 0
    owned_by: str = ""


@attrs.frozen
class Embeddings:
    """Vectors in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


class Provider(Protocol):
    """Somebody who has models.

    Everything it raises is an `uait.errors.APIError`; failures of the provider itself carry `x-should-retry: false`.
    """

    @property
    def name(self) -> str:
        """The first part of `name/model`."""

    @property
    def capabilities(self) -> Collection[Capability]:
        """What at least some of its models can do. What is not here is refused before anything is sent."""

    async def models(self) -> Sequence[Model]:
        """Ask for the list, which may take a while; the caller sets the deadline."""

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Ask a model.

        Entering returns when the provider has accepted the question, so that a refusal is raised before anything is answered. Leaving the block, or being cancelled anywhere in it, ends the question at
        the provider and closes its connection where the answer was not read to its end. It may be entered in one task, read in another and left in a third.

        The iterator may have a method `ready()` that gives the chunks which have arrived already, so that they can go on together.
        """

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        """Turn texts into vectors. Only called where `Capability.EMBEDDINGS` is there."""

    async def aclose(self) -> None:
        """Close every connection."""


@runtime_checkable
class SpeaksDialects(Protocol):
    """A provider that can take some clients' requests as they stand.

    For a request whose `original` is in one of its `dialects` it sends that, with its own name of the model and nothing else changed, and every chunk has `raw`, or the only one `body`.
    """

    @property
    def dialects(self) -> Collection[Dialect]:
        """The dialects in which it is asked itself."""


@runtime_checkable
class CountsTokens(Protocol):
    """A provider that can tell how long a prompt is before it is asked for an answer."""

    async def count_tokens(self, request: GenerateRequest) -> int:
        """The tokens of the prompt, as the model counts them."""


@runtime_checkable
class KnowsMore(Protocol):
    """A provider that comes to know what its other keys have to know, too: a question may go to any of them, whichever the last one went to."""

    def share(self, first: Any) -> None:
        """Know, and tell, what `first` does, which is the same provider under its first key."""


def hands_on(provider: Provider, request: GenerateRequest) -> bool:
    """Whether the provider takes the client's own words."""
    original = request.original
    return original is not None and isinstance(provider, SpeaksDialects) and original.dialect in provider.dialects


THINKING = "thinking"
"""What a provider is not told that cannot read the thoughts of other models; see `left_out`."""


def left_out(provider: Provider, request: GenerateRequest) -> list[str]:
    """What of the conversation a provider is not told, because nobody but its author can read it. That changes no answer, and is no reason to refuse one; but who asks may want to know."""
    if hands_on(provider, request) or getattr(provider, "reads_thoughts", False):
        return []
    return [THINKING] if any(turn.thoughts for turn in request.messages) else []


def unsupported(provider: str, what: str) -> BadRequest:
    """A refusal of what the provider, of this name, cannot do."""
    return BadRequest(
        f"The provider {provider!r} {what}; choose a model of another provider.", code="UNSUPPORTED_BY_PROVIDER"
    )


def check_capabilities(provider: Provider, request: GenerateRequest) -> None:
    """Raise a `BadRequest` that names what the provider cannot do of what the request needs."""
    if hands_on(provider, request):
        return
    needs: dict[Capability, str] = {}
    if request.tools:
        needs[Capability.TOOLS] = "call tools"
    if request.response_format and request.response_format.get("type") != "text":
        needs[Capability.JSON] = "answer in a given format"
    for turn in request.messages:
        for part in turn.parts:
            if isinstance(part, Image):
                needs[Capability.VISION] = "see images"
            elif isinstance(part, OtherPart):
                needs[Capability.ATTACHMENTS] = "read attachments"
    missing = [what for capability, what in needs.items() if capability not in provider.capabilities]
    if request.original is not None:
        missing += [f"take {what}" for what in request.original.needs]
    if missing:
        raise unsupported(provider.name, f"cannot {' or '.join(missing)}")


def check_embeddings(provider: Provider) -> None:
    """Raise a `BadRequest` where the provider has no embeddings."""
    if Capability.EMBEDDINGS not in provider.capabilities:
        raise unsupported(provider.name, "cannot make embeddings")


_NO_EFFECT = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
"""Parameters that change nothing of what is answered; a provider that does not know them may be asked without."""

_DEFAULTS: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "top_logprobs": 0,
}
"""What goes without saying, and may be said."""


class Extras:
    """A request's `extra` for a provider of another dialect: it takes out what it knows, and what is left is refused, not dropped."""

    def __init__(self, provider: str, request: GenerateRequest) -> None:
        self._provider = provider
        self._left = {
            name: value
            for name, value in request.extra.items()
            if value is not None and not (name in _DEFAULTS and value == _DEFAULTS[name])
        }

    def take(self, name: str) -> Any:
        """The parameter, or None."""
        return self._left.pop(name, None)

    def take_all(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Those there are of `names`, which gives each its other name."""
        return {theirs: self._left.pop(ours) for ours, theirs in names.items() if ours in self._left}

    def check(self) -> None:
        """Raise a `BadRequest` that names what nobody has taken."""
        left = sorted(name for name in self._left if name not in _NO_EFFECT)
        if left:
            raise unsupported(self._provider, f"does not know {', '.join(left)[:500]}")
