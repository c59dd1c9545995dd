"""A router over scripted providers, under a mock clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from scripted import Rig, Scripted

from uait.llm.catalog import Entry, open_catalog
from uait.llm.routing import RouteSettings, RoutingSettings, open_router


@pytest.fixture
def rig() -> Callable[..., AbstractAsyncContextManager[Rig]]:
    @asynccontextmanager
    async def make(
        *providers: Scripted | Entry,
        route: dict[str, Any] | None = None,
        routes: dict[str, RouteSettings] | None = None,
        settings: RoutingSettings = RoutingSettings(),
        seed: int = 1,
        **options: Any,
    ) -> AsyncIterator[Rig]:
        entries = [each if isinstance(each, Entry) else Entry(each) for each in providers]
        names = [entry.provider.name for entry in entries]
        routes = routes or {"r": RouteSettings(models=tuple(f"{name}/m" for name in names), **(route or {}))}
        used: list[Any] = []
        async with (
            open_catalog(entries, routes={name: each.models for name, each in routes.items()}) as catalog,
            open_router(
                catalog,
                lambda *what: used.append(what),
                routes=routes,
                settings=settings,
                chance=random.Random(seed),
                **options,
            ) as router,
        ):
            rig = Rig(router, used, {key.name: key for entry in entries for key in entry.keys})  # type: ignore[misc]
            yield rig
            assert rig.open == 0

    return make
