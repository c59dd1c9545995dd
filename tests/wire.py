"""A client that speaks bytes: for tests that must say exactly what goes over the wire, right or wrong."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def request(
    path: str = "/",
    *headers: str,
    method: str = "GET",
    body: bytes | None = None,
    version: str = "1.1",
    host: str = "localhost",
) -> bytes:
    """A request as a decent client sends it."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def handshake(path: str = "/ws", *headers: str, key: str = "dGhlIHNhbXBsZSBub25jZQ==") -> bytes:
    """A WebSocket's opening handshake."""
    return request(
        path,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    )


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    mask: bool = True,
    rsv: int = 0,
    length: int | None = None,
    wide: bool = False,
) -> bytes:
    """One WebSocket frame (RFC 6455 section 5.2).

    Args:
        rsv: the three reserved bits, 4 for the first.
        length: what the header says, where that is not the truth.
        wide: take eight bytes for the length, needed or not.
    """
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size > 65535 or wide:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    elif size > 125:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | size])
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 section 5.3; the same again takes it off."""
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(len(payload), "big")


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


@attrs.define
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code in the error body of every service."""
        code: str = self.json["error"]["code"]
        return code


class Wire:
    """One connection, seen from the client."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.buffer = bytearray()

    async def send(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def ask(self, path: str = "/", *headers: str, **options: Any) -> Answer:
        """One request and its answer."""
        await self.send(request(path, *headers, **options))
        return await self.answer(head_only=options.get("method") == "HEAD")

    async def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer, whole. EOFError where the connection ends before that."""
        head = await self.head()
        if head_only or head.status in (204, 304) or head.status < 200:
            return head
        if "content-length" in head.headers:
            head.body = await self.exactly(int(head.headers["content-length"]))
        elif head.headers.get("transfer-encoding") == "chunked":
            head.body = b"".join([chunk async for chunk in self.chunks()])
        else:
            head.body = await self.rest()
        return head

    async def head(self) -> Answer:
        """The next answer without its body."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return Answer(int(lines[0].split(" ")[1]), {name.lower(): value for name, value in headers.items()})

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a body, to its end."""
        while size := int(await self.until(b"\r\n"), 16):
            yield (await self.exactly(size + 2))[:-2]
        await self.until(b"\r\n")

    async def open_websocket(self, path: str = "/ws", *headers: str) -> Answer:
        """Do the opening handshake; the answer is asserted to be 101."""
        await self.send(handshake(path, *headers))
        head = await self.head()
        assert head.status == 101, head
        return head

    async def frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        first, second = await self.exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.exactly(8))
        return first & 0x0F, await self.exactly(size)

    async def close_code(self) -> int:
        """The code of the close frame that comes next, other frames left out; 1006 where the connection ends without one."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except EOFError:
            return 1006

    async def until(self, mark: bytes) -> bytes:
        """What comes before `mark`, which is left out."""
        while (end := self.buffer.find(mark)) < 0:
            await self._more()
        data = bytes(self.buffer[:end])
        del self.buffer[: end + len(mark)]
        return data

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self._more()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    async def rest(self) -> bytes:
        """Everything until the server ends the connection, in whatever way."""
        try:
            while True:
                await self._more()
        except EOFError:
            data = bytes(self.buffer)
            self.buffer.clear()
            return data

    async def _more(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            raise EOFError("the connection was reset") from None
        if not data:
            raise EOFError("the connection was closed")
        self.buffer += data

    async def half_close(self) -> None:
        """Say that nothing follows. TLS cannot."""
        if isinstance(self.stream, trio.SocketStream):
            await self.stream.send_eof()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        transport = self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.socket.close()


@asynccontextmanager
async def dial(port: int, host: str = "127.0.0.1", *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """Connect, and close in the end.

    Args:
        receive_buffer: bytes that the system takes in for us while we do not read.
    """
    sock = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await sock.connect((host, port))
        wire = Wire(trio.SocketStream(sock))
        yield wire
    finally:
        sock.close()
