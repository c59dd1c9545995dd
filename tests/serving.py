"""Servers of `uait.server` on real sockets, for tests, of each kind that there is."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs
import trio
from wire import Wire, dial

from uait.server import ASGIApp, Drain, NativeConnections, Server, ServerLimits, Speak, bind, open_server
from uait.server.hypercorn import HypercornConnections

PATIENCE = 20.0
"""Seconds after which a test has failed instead of hanging."""

KINDS: dict[str, Speak] = {"native": NativeConnections, "hypercorn": HypercornConnections}
"""What serves connections, by its kind, for tests and fixtures that are parametrised by it."""


@attrs.define
class Running:
    """A server that runs, and how to reach it."""

    server: Server
    drain: Drain
    port: int
    _messages: Callable[[], list[str]]

    @property
    def messages(self) -> list[str]:
        """What has been logged so far."""
        return self._messages()

    def dial(self, host: str = "127.0.0.1", **options: Any) -> AbstractAsyncContextManager[Wire]:
        return dial(self.port, host, **options)

    async def settled(self, open_connections: int = 0) -> None:
        """Wait until so many connections are open."""
        while self.server.statistics().open != open_connections:
            await trio.sleep(0.005)


def resources() -> tuple[int, int]:
    """This process' open files, and its tasks. Linux only."""
    return len(os.listdir("/proc/self/fd")), trio.lowlevel.current_statistics().tasks_living


async def back_at(before: tuple[int, int]) -> None:
    """Nothing more is held than `before`; connections that the system has, but nobody has accepted yet, may take a moment."""
    with trio.move_on_after(5):
        while resources() != before:
            await trio.sleep(0.005)
    assert resources() == before, (resources(), before)


Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def serving(
    app: ASGIApp,
    messages: Callable[[], list[str]] = list,
    *,
    speak: Speak,
    tls: ssl.SSLContext | None = None,
    host: str = "localhost",
    patience: float = PATIENCE,
    **limits: Any,
) -> AsyncIterator[Running]:
    """Serve `app` on a free port of both loopback addresses, for `patience` seconds at most. `limits` are fields of `ServerLimits`."""
    drain = Drain()
    sockets = bind(host, 0)
    try:
        with trio.fail_after(patience):
            opened = open_server(app, sockets, limits=ServerLimits(**limits), drain=drain, tls=tls, speak=speak)
            async with opened as server:
                yield Running(server, drain, sockets[0].getsockname()[1], messages)
    finally:
        for sock in sockets:
            sock.close()
