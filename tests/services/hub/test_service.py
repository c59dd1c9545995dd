"""The hub as its clients meet it: over real sockets, with a WebSocket client of somebody else."""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from uait.services.hub.service import hub

PATIENCE = 20


@pytest.fixture
def live_hub(run_service_live):
    @asynccontextmanager
    async def live(**settings):
        with trio.fail_after(60):
            async with run_service_live(hub, settings=settings) as url:
                yield url

    return live


@asynccontextmanager
async def connected(url, user=None, **options):
    query = f"?user_id={user}" if user else ""
    async with open_websocket_url(url.replace("http", "ws", 1) + "/ws" + query, **options) as websocket:
        yield Connection(websocket)


@asynccontextmanager
async def connected_and_deaf(url, user):
    """A client that reads nothing after the handshake. It ends without a goodbye."""
    port = int(url.rpartition(":")[2])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        await stream.send_all(
            f"GET /ws?user_id={user} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        with trio.fail_after(PATIENCE):
            assert (await stream.receive_some(12)) == b"HTTP/1.1 101"
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


class Connection:
    def __init__(self, websocket):
        self.websocket = websocket

    async def get(self, kind=None):
        with trio.fail_after(PATIENCE):
            while True:
                message = orjson.loads(await self.websocket.get_message())
                if kind is None or message["type"] == kind:
                    return message

    async def say(self, **message):
        await self.websocket.send_message(orjson.dumps(message).decode())


async def until(condition):
    with trio.fail_after(PATIENCE):
        while not await condition():
            await trio.sleep(0.01)


async def counts(client, url, key="clients"):
    return (await client.get(f"{url}/stats")).json()[key]


async def has(client, url, number):
    return await counts(client, url) == number


async def test_a_conversation(live_hub):
    async with live_hub() as url, connected(url, "ada") as ada:
        welcome = await ada.get()
        assert welcome["type"] == "status"
        assert welcome["content"] == "Welcome to the WebSocket hub"
        assert set(welcome["data"]) == {"client_id", "rooms"}
        assert welcome["data"]["rooms"] == ["general"]

        async with connected(url, "bob") as bob:
            await bob.get()
            assert (await ada.get("presence"))["data"]["event"] == "join"

            await bob.say(type="join", data={"room": "tea"})
            assert (await bob.get())["data"]["rooms"] == ["general", "tea"]
            await ada.say(type="chat", content="hello")

            heard = await bob.get()
            assert (heard["type"], heard["user_id"], heard["room"], heard["content"]) == (
                "chat",
                "ada",
                "general",
                "hello",
            )
            assert await ada.get() == heard

        gone = await ada.get("presence")
        assert (gone["user_id"], gone["data"]["event"]) == ("bob", "leave")


async def test_without_a_name_a_user_is_local(live_hub):
    async with live_hub() as url, connected(url) as somebody:
        assert (await somebody.get())["user_id"] == "local"


async def test_bad_messages_are_answered_and_the_connection_kept(live_hub):
    async with live_hub() as url, connected(url) as client:
        await client.get()
        for raw in ("", "{", "[]", '{"type": 5}', b"\x00\xff", b"", '{"type": "chat", "content": "\\ud800"}'):
            await client.websocket.send_message(raw)
            assert (await client.get())["type"] == "error"

        await client.say(type="chat", content="still here")
        assert (await client.get())["content"] == "still here"


async def test_nobody_is_listed_who_is_gone(live_hub):
    async with live_hub() as url, httpx.AsyncClient() as client:
        async with connected(url, "ada") as ada:
            await ada.get()
            await ada.say(type="join", data={"room": "tea"})
            await ada.get()
            [listed] = (await client.get(f"{url}/clients")).json()["clients"]
            assert (listed["user_id"], listed["rooms"]) == ("ada", ["general", "tea"])
            names = [room["name"] for room in (await client.get(f"{url}/rooms")).json()["rooms"]]
            assert names == ["general", "tea"]
        await until(lambda: has(client, url, 0))

        async with connected_and_deaf(url, "bob"):
            await until(lambda: has(client, url, 1))
        await until(lambda: has(client, url, 0))
        [room] = (await client.get(f"{url}/rooms")).json()["rooms"]
        assert (room["name"], room["clients"]) == ("general", 0)
        assert (await client.get(f"{url}/clients")).json() == {"clients": [], "total": 0}


async def test_health_counts_clients_and_rooms(live_hub):
    async with live_hub() as url, httpx.AsyncClient() as client, connected(url) as somebody:
        await somebody.get()
        health = (await client.get(f"{url}/health")).json()

        assert (health["service"], health["clients"], health["rooms"]) == ("websocket-hub", 1, 1)


async def test_broadcast_over_http(live_hub):
    root = httpx.AsyncClient(headers={"X-User-ID": "root"})
    async with live_hub() as url, root as client, connected(url, "ada") as ada, connected(url, "bob") as bob:
        for one in (ada, bob):
            await one.get()
        await bob.say(type="join", data={"room": "tea"})
        await bob.get("status")

        answer = (await client.post(f"{url}/broadcast", json={"content": "all"})).json()
        assert (answer["success"], answer["recipients"]) == (True, 2)
        heard = await ada.get("broadcast")
        assert (heard["id"], heard["user_id"], heard["content"]) == (answer["id"], "root", "all")

        body = {"type": "notification", "room": "tea", "data": {"n": 1}}
        answer = (await client.post(f"{url}/broadcast", json=body)).json()
        assert answer["recipients"] == 1
        assert (await bob.get("notification"))["data"] == {"n": 1}

        assert (await client.post(f"{url}/broadcast", json={"room": "nowhere", "content": "x"})).json()[
            "recipients"
        ] == 0


@pytest.mark.parametrize(
    ("body", "where"),
    [({"content": 5}, "$.content"), ({"type": "error"}, "$.type"), ({"room": "x" * 101}, "$.room"), ([], "$")],
)
async def test_a_bad_broadcast_says_what_is_wrong(run_service, body, where):
    async with run_service(hub) as client:
        answer = await client.post("/broadcast", json=body)

    assert answer.status_code == 422
    assert where in [problem["path"] for problem in answer.json()["error"]["details"]]


async def test_what_was_said_in_a_room_can_be_read(live_hub):
    async with live_hub(history=2) as url, httpx.AsyncClient() as client, connected(url, "ada") as ada:
        await ada.get()
        for content in ("one", "two", "three"):
            await ada.say(type="chat", content=content)
            await ada.get("chat")
        await ada.say(type="typing")
        await ada.get("typing")

        history = (await client.get(f"{url}/rooms/general/messages")).json()
        assert [message["content"] for message in history["messages"]] == ["two", "three"]
        assert history["offset"] == 3
        assert len((await client.get(f"{url}/rooms/general/messages?limit=1")).json()["messages"]) == 1
        missing = await client.get(f"{url}/rooms/no/such/messages")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_a_client_that_does_not_read_is_cut_off_and_costs_nobody_anything(live_hub):
    async with (
        live_hub(queue=16) as url,
        httpx.AsyncClient() as client,
        connected_and_deaf(url, "deaf") as deaf,
        connected(url, "ada") as ada,
    ):
        await ada.get()
        content = "x" * 60_000

        async def cut_off():
            await ada.say(type="chat", content=content)
            assert (await ada.get("chat"))["content"] == content
            return await counts(client, url, "slow") == 1

        await until(cut_off)
        assert await has(client, url, 1)

        # Nor is the connection kept: it is closed, or reset, as soon as that can be.
        with trio.fail_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
            while await deaf.receive_some(1_000_000):
                pass


async def test_a_slow_client_that_reads_in_the_end_learns_why(live_hub):
    async with live_hub(queue=8) as url, httpx.AsyncClient() as client, connected(url, "late") as late:

        async def slow():
            await client.post(f"{url}/broadcast", json={"content": "x" * 60_000})
            return await counts(client, url, "slow") == 1

        await until(slow)
        with pytest.raises(ConnectionClosed) as closed, trio.fail_after(PATIENCE):
            while True:
                await late.websocket.get_message()
        await trio.aclose_forcefully(late.websocket._stream)  # trio-websocket forgets to where the server closes first
    assert (closed.value.reason.code, closed.value.reason.reason) == (3008, "slow")


async def test_two_hundred_come_at_once_and_all_hear_the_same(live_hub):
    async with live_hub() as url, trio.open_nursery() as nursery:
        heard = []
        ready = trio.Semaphore(0)

        async def listen():
            async with connected(url) as client:
                await client.get("status")
                ready.release()
                heard.append((await client.get("broadcast"))["content"])

        for _ in range(200):
            nursery.start_soon(listen)
        with trio.fail_after(50):
            for _ in range(200):
                await ready.acquire()
        async with httpx.AsyncClient() as client:
            answer = (await client.post(f"{url}/broadcast", json={"content": "now"})).json()
        assert answer["recipients"] == 200
    assert heard == ["now"] * 200


async def test_when_the_service_leaves_its_clients_are_told(live_hub):
    async with trio.open_nursery() as nursery:
        reasons = []

        async def listen(url, *, task_status):
            async with connected(url) as client:
                await client.get("status")
                task_status.started()
                with pytest.raises(ConnectionClosed) as closed:
                    await client.get("nothing that is ever sent")
                reasons.append(closed.value.reason.code)
                await trio.aclose_forcefully(client.websocket._stream)

        async with live_hub() as url:
            for _ in range(3):
                await nursery.start(listen, url)
    assert reasons == [1012] * 3
