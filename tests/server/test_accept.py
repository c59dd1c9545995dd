"""Accepting goes on, whatever happens to single connections."""

from __future__ import annotations

import errno
import socket
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import trio
from echo import Echo
from serving import Serve
from wire import dial, request

from uait.server import ServerLimits, bind, open_server


async def test_one_too_many_is_told_so_and_the_others_go_on(serve: Serve, echo: Echo) -> None:
    async with serve(echo, connections=3) as running, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(running.dial()) for _ in range(3)]
        for wire in wires:
            assert (await wire.ask()).status == 200
        async with running.dial() as one_too_many:
            await one_too_many.send(request())
            answer = await one_too_many.answer()
            assert (answer.status, answer.code) == (503, "UNAVAILABLE")
            assert "retry-after" in answer.headers
            assert await one_too_many.rest() == b""
        statistics = running.server.statistics()
        assert (statistics.open, statistics.accepted, statistics.rejected) == (3, 4, 1)
        await wires.pop().aclose()
        await running.settled(2)
        async with running.dial() as wire:
            assert (await wire.ask()).status == 200
        assert len([message for message in running.messages if "more than 3 connections" in message]) == 1


async def test_many_at_once_over_the_limit_are_turned_away_within_bounds(serve: Serve, echo: Echo) -> None:
    async with serve(echo, connections=1) as running, AsyncExitStack() as stack:
        wire = await stack.enter_async_context(running.dial())
        await wire.ask()
        for _ in range(200):
            with suppress(ConnectionResetError):  # those over what is turned away politely
                await stack.enter_async_context(running.dial())
        while running.server.statistics().rejected < 200:
            await trio.sleep(0.01)
        assert (await wire.ask()).status == 200


class Failing:
    """Stands in for a listening socket's `accept`, and fails first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, errors: list[int]) -> None:
        with trio.socket.socket() as sample:
            kind: Any = type(sample)
        real = kind.accept
        self.errors = errors

        async def accept(sock: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if self.errors:
                raise OSError(self.errors.pop(), "on purpose")
            return await real(sock)

        monkeypatch.setattr(kind, "accept", accept)


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN]
)
async def test_no_error_of_accept_ends_it(
    serve: Serve, echo: Echo, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing = Failing(monkeypatch, [number] * 4)
    async with serve(echo) as running, running.dial() as wire:
        assert (await wire.ask()).status == 200
        assert not failing.errors
        if number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS):
            warnings = [message for message in running.messages if "cannot accept connections" in message]
            assert len(warnings) == 1


class FailingFirst:
    """A connection class that fails for the first connection."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    async def __call__(self, stream: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        await stream.send_all(b"fine")

    async def attend(self) -> None:
        pass


@pytest.mark.parametrize(
    "error",
    [ValueError("bug"), KeyError(1), ExceptionGroup("several", [OSError("a"), ExceptionGroup("more", [KeyError(2)])])],
)
async def test_one_connections_failure_is_its_own(
    echo: Echo, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sockets = bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    with trio.fail_after(10):
        async with open_server(echo, sockets, speak=lambda _: FailingFirst(error)) as server:
            async with dial(port) as wire:
                assert await wire.rest() == b""
            async with dial(port) as wire:
                assert await wire.rest() == b"fine"
            assert (server.statistics().failed, server.statistics().open) == (1, 0)
    (message,) = [message for message in caplog.messages if "failed" in message]
    assert message.startswith("the connection of 127.0.0.1:")
    assert "\n" not in message
    sockets[0].close()


async def test_what_must_never_be_swallowed_is_not(echo: Echo) -> None:
    sockets = bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    with pytest.raises(BaseException) as caught:
        async with open_server(echo, sockets, speak=lambda _: FailingFirst(SystemExit(3))), dial(port):
            await trio.sleep(5)
    sockets[0].close()
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SystemExit)


async def test_the_sockets_stay_the_callers(echo: Echo) -> None:
    sockets = bind("localhost", 0)
    async with open_server(echo, sockets):
        pass
    for sock in sockets:
        assert sock.fileno() != -1
        sock.close()


async def test_a_connection_gone_before_it_was_accepted_costs_nothing(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", running.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        async with running.dial() as wire:
            assert (await wire.ask()).status == 200
        await running.settled()
        assert running.server.statistics().failed == 0


def test_the_limits_have_the_names_of_the_settings() -> None:
    """The kernel hands over each limit that both have."""
    import attrs

    from uait.settings import Limits

    shared = {"connections", "body_bytes", "message_bytes", "header_timeout", "idle_timeout", "send_timeout", "queue"}
    assert shared <= {field.name for field in attrs.fields(ServerLimits)} & {
        field.name for field in attrs.fields(Limits)
    }
