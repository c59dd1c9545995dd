"""What a case is made of, and how it is played: bytes are sent, other steps are done."""

from __future__ import annotations

from typing import TypeAlias

import attrs
import trio
from wire import CLOSE, Wire, handshake, request


@attrs.frozen
class Pause:
    """Wait, so that what follows comes in a segment of its own."""

    seconds: float = 0.05


@attrs.frozen
class Drip:
    """Send byte by byte."""

    data: bytes
    pause: float = 0.002


@attrs.frozen
class Upgrade:
    """Do a WebSocket's handshake and wait for the answer."""

    path: str
    headers: tuple[str, ...] = ()


@attrs.frozen
class HalfClose:
    """Say that nothing follows."""


@attrs.frozen
class Reset:
    """End the connection with a TCP reset."""


@attrs.frozen
class Read:
    """Take in what comes, for so long or to the end of the connection."""

    seconds: float = 1.0


@attrs.frozen
class ReadSome:
    """Take in what has come."""


Step: TypeAlias = bytes | Pause | Drip | Upgrade | HalfClose | Reset | Read | ReadSome


@attrs.frozen
class Case:
    """One client.

    Attributes:
        expect: the statuses that the first answer may have, 0 standing for an end without an answer. None claims nothing.
        quick: belongs to the subset that every run of the tests plays.
        close: the codes that the server may close a WebSocket with. None claims nothing.
    """

    name: str
    steps: tuple[Step, ...]
    expect: tuple[int, ...] | None = None
    quick: bool = False
    close: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.name


async def play(case: Case, wire: Wire) -> bytes:
    """Do what the case says. Returns what the server sent; a server that ends the connection in between is within its rights."""
    received = bytearray()
    try:
        for step in case.steps:
            await _do(step, wire, received)
    except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
        pass
    received += wire.buffer
    return bytes(received)


async def _do(step: Step, wire: Wire, received: bytearray) -> None:
    match step:
        case bytes():
            with trio.move_on_after(5):  # a server that does not read any more is within its rights, too
                await wire.send(step)
        case Pause():
            await trio.sleep(step.seconds)
        case Drip():
            for byte in step.data:
                await wire.send(bytes([byte]))
                await trio.sleep(step.pause)
        case Upgrade():
            await wire.send(handshake(step.path, *step.headers))
            received += await wire.until(b"\r\n\r\n") + b"\r\n\r\n"
        case HalfClose():
            await wire.half_close()
        case Reset():
            wire.reset()
        case Read():
            with trio.move_on_after(step.seconds):
                received += await wire.rest()
        case ReadSome():
            received += await wire.stream.receive_some()


def statuses(received: bytes) -> list[int]:
    """The statuses of the answers in `received`; none where nothing was answered."""
    return [
        int(line.split(b" ")[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.") and b" " in line
    ]


def close_codes(received: bytes) -> list[int]:
    """The codes of the close frames in `received`, which begins with the answer to a handshake."""
    _, _, data = received.partition(b"\r\n\r\n")
    codes = []
    while len(data) >= 2:
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if data[0] & 0x0F == CLOSE and len(data) >= start + size:
            codes.append(int.from_bytes(data[start : start + 2], "big") if size else 1005)
        data = data[start + size :]
    return codes


def head(*lines: str | bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    """A request's head with exactly these lines."""
    raw = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([first, *([b"Host: localhost"] if host else []), *raw]) + b"\r\n\r\n"


REFUSED = (400,)
CHUNKED = "Transfer-Encoding: chunked"

HIDDEN_PATH = "/hidden"
HIDDEN = request(HIDDEN_PATH)
"""A request that must never be taken for one."""
