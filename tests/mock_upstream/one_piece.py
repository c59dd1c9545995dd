"""The scenarios where the answer was asked for in one piece: what then goes wrong with a body, in whatever dialect it is."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import trio

if TYPE_CHECKING:
    from mock_upstream.server import Connection

OnePiece: TypeAlias = "Callable[[Connection, bytes], Awaitable[None]]"

ONE_PIECE: dict[str, OnePiece] = {}
TEXTS = {
    "byte-per-segment": "Grüße 👋",
    "split-utf8": "Grüße 👋 \u2028 from the mock model.",
    "big-event": "x" * 1_000_000,
}
"""Where the text is not the usual one."""


def one_piece(function: OnePiece) -> OnePiece:
    ONE_PIECE[function.__name__.replace("_", "-")] = function
    return function


async def _start(c: Connection, encoding: str = "identity") -> None:
    await c.start({"content-type": "application/json", "content-encoding": encoding})


@one_piece
async def cut_after_headers(c: Connection, data: bytes) -> None:
    await _start(c)
    c.cut()


@one_piece
async def cut_after_role(c: Connection, data: bytes) -> None:
    await _start(c)
    await c.data(data[:10])
    c.cut()


@one_piece
async def cut_mid_content(c: Connection, data: bytes) -> None:
    await _start(c)
    await c.data(data[: len(data) // 2])
    c.cut()


@one_piece
async def reset_mid_content(c: Connection, data: bytes) -> None:
    await _start(c)
    await c.data(data[: len(data) // 2])
    await trio.sleep(0.05)
    c.reset()


@one_piece
async def end_mid_content(c: Connection, data: bytes) -> None:
    await _start(c)
    await c.data(data[: len(data) // 2])
    await c.end()


@one_piece
async def not_json(c: Connection, data: bytes) -> None:
    await c.whole(200, b"{oops", {"content-type": "application/json"})


@one_piece
async def silent_after_headers(c: Connection, data: bytes) -> None:
    await _start(c)
    await trio.sleep_forever()


@one_piece
async def stall(c: Connection, data: bytes) -> None:
    await _start(c)
    await c.data(data[: len(data) // 2])
    await trio.sleep_forever()


@one_piece
async def byte_per_segment(c: Connection, data: bytes) -> None:
    await c.start({"content-type": "application/json"}, chunked=False)
    for byte in data:
        await c.data(bytes([byte]))
    await c.end()


@one_piece
async def split_utf8(c: Connection, data: bytes) -> None:
    await _start(c)
    at = data.index("👋".encode()) + 2
    await c.data(data[:at])
    await trio.sleep(0.02)
    await c.data(data[at:])
    await c.end()


@one_piece
async def big_event(c: Connection, data: bytes) -> None:
    await c.whole(200, data, {"content-type": "application/json"})


@one_piece
async def gzipped(c: Connection, data: bytes) -> None:
    await _start(c, "gzip")
    await c.data(gzip.compress(data))
    await c.end()
