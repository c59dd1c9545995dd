from __future__ import annotations

import orjson
import pytest
import trio


class Service:
    """Stands in for a service: tells what it was asked, or what it was told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: dict[str, object] = {"/health": {"status": "healthy"}, "/models": None}
        self.asked: list[str] = []

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.asked.append(path)
        if scope["type"] == "websocket":
            await self.websocket(scope, receive, send)
            return
        answer = self.answers.get(path, ...)
        if callable(answer):
            await answer(scope, receive, send)
        elif answer is None:
            await respond(send, 404, {"error": {"code": "NOT_FOUND", "message": "no"}})
        elif isinstance(answer, tuple):
            await respond(send, *answer)
        else:
            await respond(send, 200, await self.seen(scope, receive) if answer is ... else answer)

    async def seen(self, scope, receive):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        return {
            "service": self.name,
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "body": body.decode(),
        }

    async def websocket(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"{self.name} {scope['path']}?{scope['query_string'].decode()}"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


async def respond(send, status, body, headers=()):
    data = orjson.dumps(body)
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(b"content-type", b"application/json"), *headers]})
    await send({"type": "http.response.body", "body": data, "more_body": False})


async def hang(scope, receive, send):
    await trio.sleep_forever()


@pytest.fixture(name="hang")
def _hang():
    return hang


@pytest.fixture
def deep():
    """Answers with more brackets than Python's own reader of JSON can take."""

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"[" * 100_000})

    return answer


@pytest.fixture
def service():
    return Service
