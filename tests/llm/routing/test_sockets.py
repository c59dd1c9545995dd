"""Over real sockets: whatever a provider does and whenever the client leaves, nothing is left open."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from mock_upstream import Upstream

from uait.errors import APIError
from uait.llm.catalog import Entry, open_catalog
from uait.llm.messages import GenerateRequest, Usage, message
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.routing import Router, RouteSettings, RoutingSettings, open_router
from uait.llm.upstream import Timeouts

SCENARIOS = (
    "tokens",
    "tokens?count=20&delay=0.002",
    "tokens?count=3&delay=0.002&first=0.01",
    "silent",
    "silent-after-headers",
    "stall",
    "cut-after-headers",
    "cut-after-role",
    "cut-mid-content",
    "reset-mid-content",
    "error-frame-first",
    "error-frame-later",
    "http-error?status=503",
    "overloaded",
    "done-without-finish",
    "pings",
    "gzipped",
    "ignores-stream",
    "not-json",
    "no-choices",
)


@asynccontextmanager
async def routing(upstream: Upstream, routes: dict[str, RouteSettings]) -> AsyncIterator[Router]:
    timeouts = Timeouts(connect=5, first_token=0.5, idle=0.5, total=5)
    entries = [Entry(OpenAIProvider(name, upstream.url, timeouts=timeouts)) for name in ("a", "b")]
    settings = RoutingSettings(
        hedge_ratio=1.0, hedge_floor=0.01, longest_pause=0.05, breaker_failures=10_000, first_token_timeout=0.05
    )
    async with (
        open_catalog(entries) as catalog,
        open_router(catalog, lambda *_: None, routes=routes, settings=settings, total=5.0) as router,
    ):
        yield router


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.soak)])
async def test_after_any_number_of_questions_nothing_is_open(upstream: Upstream, runs: int) -> None:
    chance = random.Random(runs)
    routes: dict[str, RouteSettings] = {}
    took = []
    outcomes: Counter[str] = Counter()
    async with routing(upstream, routes) as router:
        for n in range(runs):
            models = tuple(f"{name}/{chance.choice(SCENARIOS)}" for name in "ab")
            plan = await router.plan(",".join(models))
            plan = type(plan)(plan.asked, "r", RouteSettings(models=models, hedge=True), plan.candidates)
            for candidate in plan.candidates:
                for _ in range(20):
                    candidate.model.observe(0.01)
            question = GenerateRequest(model="r", messages=(message("user", "x"),))
            routed: Any = router.ask(plan, question, "ann", str(n), whole=chance.random() < 0.3)
            with trio.CancelScope() as scope:
                try:
                    async with trio.open_nursery() as nursery:

                        async def leave(scope: trio.CancelScope = scope) -> None:
                            await trio.sleep(chance.choice((0.0, 0.002, 0.01, 0.02, 0.05, 10.0)))
                            scope.cancel(reason="the client leaves")

                        nursery.start_soon(leave)
                        try:
                            await routed.open()
                            async for _ in routed:
                                pass
                        except APIError:
                            pass
                        nursery.cancel_scope.cancel(reason="it has ended by itself")
                finally:
                    routed.used(Usage())
                    await routed.aclose()
            began = time.monotonic()
            await upstream.until(lambda server: server.open_requests == 0)
            took.append(time.monotonic() - began)
            outcomes.update(attempt.outcome for attempt in routed.trace.attempts)
        assert outcomes.keys() == {"answered", "failed", "lost", "left"}, outcomes
        assert max(took) < 2  # the promise is 0.1; the machine may be busy
        print(f"closed upstream after {sorted(took)[len(took) // 2] * 1000:.1f} ms, at most {max(took) * 1000:.1f} ms")
    await upstream.until(lambda server: server.connections == 0)
