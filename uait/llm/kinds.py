"""Kinds of providers: the entry points of the group `uait.providers`, the built-in ones among them. One that is broken breaks only its own providers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import attrs

from uait.entry_points import Declaration, declared_providers, import_object
from uait.errors import APIError, PluginError, Unavailable
from uait.llm import upstream
from uait.llm.messages import Chunk, GenerateRequest
from uait.llm.provider import Capability, Embeddings, Model, Provider
from uait.llm.upstream import Timeouts

API_VERSION = 1
"""Of what stands in `uait.llm` for providers of third parties."""

_METHODS = ("name", "capabilities", "models", "stream", "embed", "aclose")

_log = logging.getLogger("uait.llm")


def _known(instance: Any, attribute: Any, value: str) -> None:
    names = [each.name for each in declared_providers()]
    if value not in names:
        raise ValueError(f"must be one of {', '.join(map(repr, names))}, not {value!r}")


def is_address(url: str) -> bool:
    """Whether a provider can be at `url`: it is one of HTTP and names a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and len(url.split()) == 1
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _address(instance: Any, attribute: Any, value: str) -> None:
    if value and not is_address(value):
        given = "" if "://" in value else f", not {value!r}"  # a whole address may have a password in it
        raise ValueError(f"must be an address such as http://localhost:8000/v1{given}")


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """A provider from the settings, `[chat.providers.NAME]`.

    Attributes:
        kind: whose dialect it speaks: one of the built-in kinds, or a plugin's.
        base_url: where it is; for `openai` what `/chat/completions` is put after, which usually ends in `/v1`. Without one it is the vendor's own, or, where NAME is that of a well-known server, that one.
        key: its API key, or
        key_variable: the environment variable that holds it, or
        keys: several: where one is refused for a while, the others go on. Without any, and without a `base_url`, it is in the variable that it has by custom.
        api: for `openai`: `responses` asks it through `/responses`.
        options: whatever else a plugin's kind wants to know.
    """

    kind: str = attrs.field(default="openai", validator=_known)
    base_url: str = attrs.field(default="", validator=_address)
    key: str = attrs.field(default="", repr=False)
    key_variable: str = ""
    keys: tuple[str, ...] = attrs.field(default=(), repr=False)
    api: Literal["chat", "responses"] = "chat"
    options: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


class Make(Protocol):
    """Makes a provider, and opens nothing yet.

    Its arguments: the first part of `name/model`; the settings, whose `base_url` is the kind's own where nobody has said another; one of the API keys, empty where there is none; how long it may take.
    """

    def __call__(self, name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider: ...


@attrs.frozen(kw_only=True)
class ProviderKind:
    """What an entry point of the group `uait.providers` names; the entry point's name is the kind's.

    Attributes:
        make: makes a provider.
        base_url: where such a provider usually is.
        variables: environment variables by what they say: "key", "base_url", or an option of this kind. Where one of them is set there is a provider of this kind, under the kind's name, without any settings. That of the key is also where settings without a key have theirs by custom.
        api: the version of `uait.llm` that it is written for.
    """

    make: Make
    base_url: str = ""
    variables: Mapping[str, str] = attrs.field(factory=dict)
    api: int = API_VERSION


def load_kind(declaration: Declaration) -> ProviderKind:
    """Import a kind and check it.

    Raises:
        PluginError: saying who, what, and what to do.
    """
    if declaration.problem:
        raise PluginError(declaration.problem)
    who = f"provider {declaration.name!r} ({declaration.origin}, {declaration.value})"
    kind = import_object(declaration, who, "the entry point")
    if not isinstance(kind, ProviderKind):
        raise PluginError(f"{who} is a {type(kind).__name__}, not a uait.llm.ProviderKind")
    if kind.api != API_VERSION:
        raise PluginError(
            f"{who} is written for version {kind.api} of the provider API, and this uait has {API_VERSION}: install a fitting release"
        )
    if not callable(kind.make):
        raise PluginError(f"{who}: `make` must be a function that makes a provider")
    return kind


def make_provider(kind: ProviderKind, name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
    """Make a provider of a kind, and check that it is one.

    Raises:
        PluginError: saying which provider, and what is wrong.
    """
    if not settings.base_url:
        settings = attrs.evolve(settings, base_url=kind.base_url)
    who = f"the provider {name!r} of the kind {settings.kind!r}"
    try:
        provider = kind.make(name, settings, key, timeouts)
        # Properties are somebody else's code, too.
        missing = [method for method in _METHODS if not hasattr(provider, method)]
    except Exception as error:
        raise PluginError(f"{who} cannot be made: {type(error).__name__}: {error}") from error
    if missing:
        raise PluginError(f"{who} is a {type(provider).__name__}, and has no {', '.join(missing)}")
    return provider


class Kinds:
    """The kinds there are, each loaded in isolation when it is first asked for."""

    def __init__(self, found: Sequence[Declaration] | None = None) -> None:
        self._found = {each.name: each for each in (declared_providers() if found is None else found)}
        self._loaded: dict[str, ProviderKind | None] = {}

    def names(self, *, builtin: bool) -> Iterator[str]:
        """Of uait's own, or of third parties'."""
        return (name for name, each in self._found.items() if each.builtin == builtin)

    def find(self, name: str) -> ProviderKind | None:
        """A kind; None where it cannot be used, which is logged."""
        if name not in self._loaded:
            try:
                self._loaded[name] = load_kind(self._found[name])
            except PluginError as error:
                _log.error("%s", error)
                self._loaded[name] = None
        return self._loaded[name]

    def make(self, name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
        """A provider. Where its kind cannot make one, it is one that says so whenever it is asked."""
        kind = self.find(settings.kind)
        if kind is None:
            return BrokenProvider(name, f"is of the kind {settings.kind!r}, which cannot be loaded")
        try:
            return make_provider(kind, name, settings, key, timeouts)
        except PluginError as error:
            _log.error("%s", error, exc_info=error.__cause__)
            return BrokenProvider(name)


class BrokenProvider:
    """Stands for a provider that cannot be there: it is listed, and whoever asks it is told."""

    capabilities = frozenset(Capability)

    def __init__(self, name: str, why: str = "cannot be made from its settings") -> None:
        self.name = name
        self._why = why

    def _error(self) -> APIError:
        return upstream.failed(
            Unavailable(
                f"The provider {self.name!r} {self._why}; `uait doctor` and the log say more.",
                code=upstream.NEVER,
                details={"provider": self.name},
                retry_after=None,
            )
        )

    async def models(self) -> Sequence[Model]:
        raise self._error()

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        raise self._error()

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        raise self._error()

    async def aclose(self) -> None:
        """Nothing is open."""
