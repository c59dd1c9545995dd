from __future__ import annotations

import functools
import logging

import pytest
from echo import Echo, make_quart_app
from serving import KINDS, Serve, serving

from uait.server import ASGIApp, Speak


@pytest.fixture(autouse=True)
def short_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections whose client stays end sooner than in earnest, for the tests' sake."""
    monkeypatch.setattr("uait.server.timing.LINGER", 0.2)
    monkeypatch.setattr("uait.server.timing.CLOSING_SECONDS", 0.4)
    monkeypatch.setattr("uait.server.timing.HANDLING_SECONDS", 0.3)
    monkeypatch.setattr("uait.server.listener.CUT", 0.3)
    monkeypatch.setattr("uait.server.listener.KILL", 0.2)


@pytest.fixture(params=KINDS)
def speak(request: pytest.FixtureRequest) -> Speak:
    """What serves the connections: each kind keeps each promise."""
    return KINDS[request.param]


@pytest.fixture
def serve(speak: Speak, caplog: pytest.LogCaptureFixture) -> Serve:
    """`async with serve(app, idle_timeout=0.2) as running`: see `serving`."""
    caplog.set_level(logging.DEBUG, logger="uait.server")
    return functools.partial(serving, messages=lambda: caplog.messages, speak=speak)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture(params=["asgi", "quart"])
def either(request: pytest.FixtureRequest) -> ASGIApp:
    """The echo app as plain ASGI, and as QuartTrio: what is promised for both."""
    return Echo() if request.param == "asgi" else make_quart_app()
