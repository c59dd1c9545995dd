"""Every case of the corpus against a server: it costs the sender its connection at most, and nobody else anything."""

from __future__ import annotations

import logging

import pytest
import trio
from echo import Echo, make_quart_app
from hostile.corpus import HIDDEN_PATH, Case, close_codes, corpus, play, statuses
from serving import KINDS, Running, back_at, resources, serving

LIMITS = {
    "header_timeout": 1.0,
    "idle_timeout": 1.0,
    "send_timeout": 1.0,
    "accept_timeout": 1.0,
    "message_bytes": 1_000_000,
    "body_bytes": 1_000_000,
}


def marked(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=() if case.quick else (pytest.mark.hostile, pytest.mark.shared))


@pytest.fixture(autouse=True)
def short_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.server.timing.LINGER", 0.2)
    monkeypatch.setattr("uait.server.timing.CLOSING_SECONDS", 0.2)
    monkeypatch.setattr("uait.server.timing.HANDLING_SECONDS", 0.3)


async def still_answers(running: Running) -> None:
    async with running.dial() as wire:
        answer = await wire.ask()
        assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize("case", [marked(case) for case in corpus()])
@pytest.mark.parametrize("framework", ["asgi", "quart"])
@pytest.mark.parametrize("kind", KINDS)
async def test_it_costs_nobody_else_anything(
    case: Case, kind: str, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="uait.server")
    app = Echo() if framework == "asgi" else make_quart_app()
    async with serving(app, lambda: caplog.messages, speak=KINDS[kind], **LIMITS) as running:
        await still_answers(running)
        await running.settled()
        before = resources()
        async with running.dial() as wire:
            received = await play(case, wire)
            await still_answers(running)
        await back_at(before)
        if case.expect is not None:
            assert (statuses(received) or [0])[0] in case.expect
        if case.close is not None:
            assert close_codes(received)[:1] in [[code] for code in case.close]
        assert all(status != 500 for status in statuses(received))
        statistics = running.server.statistics()
        assert statistics.failed == 0
        assert not [message for message in running.messages if "crashed" in message]
        if isinstance(app, Echo):
            assert app.inside == []
            assert not [call for call in app.ended if HIDDEN_PATH in call]


@pytest.mark.hostile
@pytest.mark.parametrize("kind", KINDS)
async def test_all_of_them_at_once(kind: str) -> None:
    app = Echo()
    async with serving(app, speak=KINDS[kind], patience=120, **LIMITS) as running:
        await still_answers(running)
        await running.settled()
        before = resources()

        async def attack(case: Case) -> None:
            async with running.dial() as wire:
                await play(case, wire)

        async with trio.open_nursery() as nursery:
            for case in corpus():
                nursery.start_soon(attack, case)
            for _ in range(20):
                await still_answers(running)
        await back_at(before)
        assert running.server.statistics().failed == 0
        assert app.inside == []
