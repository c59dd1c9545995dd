"""What a provider of models is: anything with these few methods."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from uait.errors import BadRequest
from uait.llm.messages import Chunk, GenerateRequest, Image, OtherPart, Usage


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


def check_capabilities(provider: Provider, request: GenerateRequest) -> None:
    """Raise a `BadRequest` that names what the provider cannot do of what the request needs."""
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
    if missing:
        raise BadRequest(
            f"The provider {provider.name!r} cannot {' or '.join(missing)}; choose a model of another provider.",
            code="UNSUPPORTED_BY_PROVIDER",
        )


def check_embeddings(provider: Provider) -> None:
    """Raise a `BadRequest` where the provider has no embeddings."""
    if Capability.EMBEDDINGS not in provider.capabilities:
        raise BadRequest(
            f"The provider {provider.name!r} cannot make embeddings; choose a model of another provider.",
            code="UNSUPPORTED_BY_PROVIDER",
        )
