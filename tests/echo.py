"""Two apps with the same paths, one plain ASGI and one QuartTrio, for tests of whatever serves apps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import trio
from quart import Response, request, websocket
from quart_trio import QuartTrio

PIECE = b"x" * 65536


class Echo:
    """Plain ASGI. It keeps count of what is inside it, and of how requests ended.

    Attributes:
        inside: paths of the calls that are open now.
        ended: how calls ended, as "PATH returned", "PATH raised ValueError" or "PATH cancelled".
        lifespan: the lifespan messages it got.
    """

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.ended: list[str] = []
        self.lifespan: list[str] = []
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        self.inside.append(path)
        end = "cancelled"
        try:
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
            else:
                await self._http(scope, receive, send)
            end = "returned"
        except Exception as error:
            end = f"raised {type(error).__name__}"
            raise
        finally:
            self.inside.remove(path)
            self.ended.append(f"{path} {end}")

    async def _live(self, receive: Any, send: Any) -> None:
        for _ in range(2):
            message = await receive()
            self.lifespan.append(message["type"])
            await send({"type": message["type"] + ".complete"})

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/echo":
                body = b"".join([piece async for piece in _pieces(receive)])
                await answer(send, body)
            case "/count":
                size = 0
                async with aclosing(_pieces(receive)) as pieces:
                    async for piece in pieces:
                        size += len(piece)
                await answer(send, b"%d" % size)
            case "/mirror":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                async with aclosing(_pieces(receive)) as pieces:
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            case "/wait":
                await trio.sleep_forever()
            case "/slow":
                await trio.sleep(0.3)
                await answer(send, b"slow")
            case "/listen":
                while (await receive())["type"] != "http.disconnect":
                    pass
            case "/after":
                await answer(send, b"done")
                self.received.append(await receive())
            case "/sse":
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
                )
                while True:
                    await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
                    await trio.sleep(0.01)
            case "/big":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            case "/empty-pieces":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                while True:
                    await send({"type": "http.response.body", "body": b"", "more_body": True})
            case "/crash":
                raise ValueError("on purpose")
            case "/crash-late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise ValueError("on purpose")
            case "/return":
                pass
            case "/return-late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
            case "/bad-header":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\0b")]})
            case "/bad-status":
                await send({"type": "http.response.start", "status": 99, "headers": []})
            case "/short":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
                await send({"type": "http.response.body", "body": b"short"})
            case "/scope":
                shown = {
                    key: scope[key] for key in ("path", "query_string", "headers", "http_version", "client", "state")
                }
                await answer(send, repr(shown).encode())
            case _:
                await answer(send, b"hello")

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await receive()
        match path:
            case "/ws/never":
                await trio.sleep_forever()
            case "/ws/deny":
                await send({"type": "websocket.close"})
                return
            case "/ws/crash-early":
                raise ValueError("on purpose")
            case "/ws/return-early":
                return
        await send({"type": "websocket.accept"})
        match path:
            case "/ws/crash":
                raise ValueError("on purpose")
            case "/ws/return":
                return
            case "/ws/close":
                await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
            case "/ws/wait-for-the-end":
                ended = trio.Event()
                scope["uait.disconnect"].add(ended.set)
                await ended.wait()
            case "/ws/deaf":
                await trio.sleep_forever()
            case "/ws/flood":
                while True:
                    await send({"type": "websocket.send", "bytes": PIECE})
            case _:
                while True:
                    message = await receive()
                    self.received.append(message)
                    if message["type"] == "websocket.disconnect":
                        return
                    await send({**message, "type": "websocket.send"})


async def _pieces(receive: Any) -> AsyncGenerator[bytes, None]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        yield message["body"]
        more = message["more_body"]


async def answer(send: Any, body: bytes) -> None:
    """A whole answer of known length."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_quart_app() -> QuartTrio:
    """The paths of `Echo` that a Quart app can have, by plain quart-trio, without any convention of ours."""
    app = QuartTrio("echo")

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo() -> bytes:
        data: bytes = await request.get_data()
        return data

    @app.get("/wait")
    async def wait() -> str:
        await trio.sleep_forever()
        return ""

    @app.get("/slow")
    async def slow() -> str:
        await trio.sleep(0.3)
        return "slow"

    @app.get("/sse")
    async def sse() -> Response:
        return _streaming(b"data: x\n\n", 0.01)

    @app.get("/big")
    async def big() -> Response:
        return _streaming(PIECE, 0)

    @app.get("/crash")
    async def crash() -> str:
        raise ValueError("on purpose")

    @app.websocket("/ws")
    async def ws() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/ws/deaf")
    async def deaf() -> None:
        await websocket.accept()
        await trio.sleep_forever()

    @app.websocket("/ws/flood")
    async def flood() -> None:
        while True:
            await websocket.send(PIECE)

    return app


def _streaming(piece: bytes, pause: float) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield piece
            await trio.sleep(pause)

    response = Response(pieces(), content_type="text/event-stream")
    response.timeout = None
    return response
