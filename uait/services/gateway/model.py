"""The gateway's settings, and what it answers itself."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import attrs
from attrs import validators

Health: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
HEALTH_WORDS: tuple[Health, ...] = ("healthy", "degraded", "unhealthy")


@attrs.frozen(kw_only=True)
class GatewaySettings:
    """The section `[gateway]`.

    Attributes:
        cors_origins: origins (`https://app.example`) whose pages may call from a browser; `*` lets all in. Left out: pages from this machine, any port.
        health_timeout: seconds that each service has to tell its health.
        models_timeout: seconds that each service has to list its models.
        models_ttl: seconds for which a list of models is given again without asking.
    """

    cors_origins: tuple[str, ...] = attrs.field(
        default=(),
        validator=validators.deep_iterable(validators.matches_re(r"\*|https?://[^\s/*]+")),
    )
    health_timeout: float = attrs.field(default=1.0, validator=[validators.gt(0), validators.le(60)])
    models_timeout: float = attrs.field(default=5.0, validator=[validators.gt(0), validators.le(60)])
    models_ttl: float = attrs.field(default=2.0, validator=[validators.ge(0), validators.le(3600)])


@attrs.frozen(kw_only=True)
class ServiceHealth:
    """How one service is.

    Attributes:
        name: its short name.
        status: what it says of itself; `unhealthy` where it does not answer.
        state: where it is in its life, as its host knows.
        latency_ms: how long its answer took, None where there was none.
        error: why there was none.
    """

    name: str
    status: Health
    state: str
    latency_ms: float | None = None
    error: str | None = None


@attrs.frozen(kw_only=True)
class Model:
    """One model that a provider has.

    Attributes:
        id: what a request names it by.
        stale: its provider does not answer; this is what it had last.
    """

    id: str
    provider: str
    name: str
    capabilities: list[str] = attrs.field(factory=list)
    context_length: int | None = None
    status: str = "available"
    stale: bool = False


@attrs.frozen(kw_only=True)
class ProviderModels:
    """How one provider is, and how many models it has."""

    status: str
    models: int
    error: str | None = None


@attrs.frozen(kw_only=True)
class Models:
    """The models of all services."""

    models: list[Model]
    total: int
    providers: dict[str, ProviderModels]


@attrs.frozen(kw_only=True)
class Offer:
    """What one service said of its models."""

    models: tuple[Model, ...]
    providers: dict[str, ProviderModels]


def read_offer(service: str, answer: Any) -> Offer | None:
    """What a service's `GET /models` tells, in our shape or in OpenAI's (`{"data": [...]}`); None where it is neither.

    Entries that are no models are left out: one odd service must not spoil everybody's list.
    """
    if not isinstance(answer, dict):
        return None
    entries = answer.get("models", answer.get("data"))
    if not isinstance(entries, list):
        return None
    models = tuple(model for entry in entries if (model := _model(service, entry)) is not None)
    told = answer.get("providers")
    providers: dict[str, ProviderModels] = {}
    if isinstance(told, dict):
        providers = {name: _provider(state) for name, state in told.items() if isinstance(state, dict)}
    for model in models:
        if model.provider not in providers:
            count = sum(other.provider == model.provider for other in models)
            providers[model.provider] = ProviderModels(status="available", models=count)
    return Offer(models=models, providers=providers)


def _model(service: str, entry: Any) -> Model | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    capabilities, context_length = entry.get("capabilities"), entry.get("context_length")
    return Model(
        id=entry["id"],
        provider=_text(entry.get("provider"), _text(entry.get("owned_by"), service)),
        name=_text(entry.get("name"), entry["id"]),
        capabilities=[each for each in capabilities if isinstance(each, str)] if isinstance(capabilities, list) else [],
        context_length=context_length if type(context_length) is int else None,
        status=_text(entry.get("status"), "available"),
        stale=entry.get("stale") is True,
    )


def _provider(state: dict[str, Any]) -> ProviderModels:
    count, error = state.get("models"), state.get("error")
    return ProviderModels(
        status=_text(state.get("status"), "available"),
        models=count if type(count) is int else 0,
        error=error if isinstance(error, str) else None,
    )


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) and value else otherwise
