"""Chat over a WebSocket: several answers at once, each cancellable, and all of them over when the client leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket

SLOW = "mock/tokens?count=2000&delay=0.01"


class Client:
    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send_message(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(10):
            event: dict[str, Any] = json.loads(await self.connection.get_message())
        return event

    async def until(self, kind: str, id: str | None = None) -> list[dict[str, Any]]:
        """All events up to the first of a kind."""
        events = []
        while True:
            events.append(await self.receive())
            if events[-1]["type"] == kind and (id is None or events[-1]["id"] == id):
                return events


@pytest.fixture
def connect(running: Any) -> Any:
    @asynccontextmanager
    async def connect(user: str = "ann") -> AsyncIterator[Client]:
        url = f"{running.url.replace('http', 'ws')}/ws/chat?user_id={user}"
        async with trio_websocket.open_websocket_url(url, message_queue_size=1000) as connection:
            yield Client(connection)

    return connect


async def test_an_answer(running: Any, connect: Any) -> None:
    async with connect() as client:
        await client.send(id="q1", message="Hello", model="mock/tokens")
        start, *chunks, done = await client.until("done")
    assert (start["type"], start["id"], start["model"]) == ("start", "q1", "mock/tokens")
    assert {chunk["type"] for chunk in chunks} == {"chunk"}
    assert {chunk["id"] for chunk in chunks} == {"q1"}
    assert "".join(chunk["chunk"] for chunk in chunks) == done["response"] == "tok0 tok1 tok2 tok3 tok4 "
    assert done["conversation_id"] == start["conversation_id"]
    kept = await running.messages(start["conversation_id"])
    assert kept[1]["id"] == start["message_id"] == done["message_id"]


async def test_an_id_is_made_where_there_is_none(connect: Any) -> None:
    async with connect() as client:
        await client.send(message="Hello", model="mock/tokens")
        events = await client.until("done")
    assert len({event["id"] for event in events}) == 1
    assert events[0]["id"]


async def test_several_at_once(connect: Any) -> None:
    async with connect() as client:
        for n in range(5):
            await client.send(id=str(n), message="Hello", model="mock/tokens?count=10&delay=0.02")
        open_ids = {str(n) for n in range(5)}
        order = []
        while open_ids:
            event = await client.receive()
            order.append(event["id"])
            if event["type"] == "done":
                open_ids.remove(event["id"])
    first_done = order.index("0")
    assert len(set(order[first_done : first_done + 40])) > 1


async def test_one_is_cancelled_and_the_others_go_on(running: Any, connect: Any) -> None:
    async with connect() as client:
        await client.send(id="slow", message="x", model=SLOW)
        await client.until("chunk")
        await client.send(id="other", message="x", model="mock/tokens?count=20&delay=0.02")
        await client.until("chunk", "other")
        await client.send(type="cancel", id="slow")
        cancelled = (await client.until("cancelled"))[-1]
        assert (cancelled["id"], cancelled["finish_reason"]) == ("slow", "stopped")
        assert cancelled["response"].startswith("tok0 ")
        assert (await client.until("done"))[-1]["response"].endswith("tok19 ")
    kept = await running.messages(cancelled["conversation_id"])
    assert kept[1]["content"] == cancelled["response"]


async def test_cancelled_before_the_first_token(running: Any, connect: Any) -> None:
    async with connect() as client:
        await client.send(id="a", message="x", model="mock/silent")
        await client.send(type="cancel", id="a")
        assert (await client.until("cancelled"))[-1]["response"] == ""
    await running.upstream.until(lambda server: server.open_requests == 0)


async def test_leaving_stops_everything(running: Any, connect: Any) -> None:
    async with connect() as client:
        for n in range(3):
            await client.send(id=str(n), message="x", model=SLOW)
        await running.asked(3)
        await client.until("chunk")
    await running.upstream.until(lambda server: server.open_requests == 0)
    with trio.fail_after(10):
        while True:
            listed = (await running.client.get("/conversations", params={"messages": True})).json()["conversations"]
            if sum(len(each["messages"]) for each in listed) >= 4:
                break
            await trio.sleep(0.01)


async def test_in_the_background_it_goes_on(running: Any, connect: Any) -> None:
    async with connect() as client:
        await client.send(id="a", message="x", model="mock/tokens?count=20&delay=0.02", background=True)
        start = (await client.until("chunk"))[0]
    kept = await running.until_answered(start["conversation_id"])
    assert kept[1]["content"].endswith("tok19 ")


@pytest.mark.parametrize(
    ("text", "code", "id"),
    [
        ("{", "INVALID_JSON", None),
        ("[]", "INVALID_REQUEST", None),
        ('{"id": 5}', "INVALID_REQUEST", None),
        ('{"id": "", "message": "x"}', "INVALID_REQUEST", None),
        ('{"id": "a"}', "VALIDATION_FAILED", "a"),
        ('{"id": "a", "type": "dance"}', "INVALID_REQUEST", "a"),
        ('{"id": "a", "type": "cancel"}', "NOT_FOUND", "a"),
        ('{"id": "a", "message": "x", "conversation_id": "nope"}', "NOT_FOUND", "a"),
        ('{"id": "a", "message": "x", "model": "nobody/knows"}', "MODEL_NOT_FOUND", "a"),
        ('{"id": "a", "message": "x", "model": "mock/cut-mid-content"}', "UPSTREAM_ERROR", "a"),
    ],
)
async def test_what_is_wrong_is_told_and_the_connection_stays(connect: Any, text: str, code: str, id: str) -> None:
    async with connect() as client:
        await client.connection.send_message(text)
        error = (await client.until("error"))[-1]
        assert (error["error"]["code"], error["id"]) == (code, id)
        await client.send(type="ping", id="p")
        assert await client.receive() == {"type": "pong", "id": "p"}


async def test_an_id_in_use(connect: Any) -> None:
    async with connect() as client:
        await client.send(id="a", message="x", model="mock/silent")
        await client.send(id="a", message="y", model="mock/silent")
        assert (await client.until("error"))[-1]["error"]["code"] == "CONFLICT"


async def test_not_too_many_at_once(connect: Any) -> None:
    async with connect() as client:
        for n in range(17):
            await client.send(id=str(n), message="x", model="mock/silent")
        error = (await client.until("error"))[-1]
        assert (error["id"], error["error"]["code"]) == ("16", "RATE_LIMITED")


async def test_a_client_that_does_not_read_holds_nobody_up(running: Any, connect: Any) -> None:
    """Its own answer is made to the end; it gets it in bigger pieces when it reads again."""
    async with connect() as client:
        await client.send(id="a", message="x", model="mock/tokens?count=300&delay=0.001")
        await trio.sleep(0.5)
        assert (await running.say())["finish_reason"] == "stop"
        *_, done = await client.until("done")
    assert done["response"].endswith("tok299 ")
