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


async def test_nor_does_a_broadcast_make_others_believe_in_ghosts(run_service):
    async with run_service(hub) as client:
        for event, status in (("leave", 422), ("away", 200)):
            said = {"type": "presence", "room": "general", "data": {"event": event, "client_id": "x"}}
            answer = await client.post("/broadcast", json=said)
            assert answer.status_code == status
            assert answer.json().get("error", {}).get("code") == (None if status == 200 else "RESERVED")


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


async def test_when_the_service_leaves_its_clients_are_told_why_and_when_to_come_back(live_hub):
    async with trio.open_nursery() as nursery:
        reasons, told = [], []

        async def listen(url, *, task_status):
            async with connected(url) as client:
                await client.get("status")
                task_status.started()
                with pytest.raises(ConnectionClosed) as closed:
                    told.append((await client.get("status"))["data"]["reconnect_after_ms"])
                    await client.get("nothing that is ever sent")
                reasons.append((closed.value.reason.code, closed.value.reason.reason))
                await trio.aclose_forcefully(client.websocket._stream)

        async with live_hub() as url:
            for _ in range(3):
                await nursery.start(listen, url)
    assert sorted(reasons) == sorted((1012, f"restart; reconnect in {pause} ms") for pause in told)
    assert len(told) == 3


# Over HTTP, for clients that have no WebSocket


class Events:
    """The events of one event stream, one after the other."""

    def __init__(self, stream):
        self._stream = stream
        self._text = ""

    async def block(self):
        with trio.fail_after(PATIENCE):
            while "\n\n" not in self._text and (data := await self._stream.receive_some()):
                self._text += data.decode().replace("\r", "")
        block, _, self._text = self._text.partition("\n\n")
        return block

    async def get(self):
        """The next event's fields, or None at the end."""
        while (block := await self.block()).startswith(":"):
            pass
        return dict(line.split(": ", 1) for line in block.split("\n")) if block else None

    async def take(self, count):
        return [await self.get() for _ in range(count)]


@asynccontextmanager
async def watching(url, **headers):
    """An event stream without chunks, as HTTP/1.0 has it."""
    port, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
    async with await trio.open_tcp_stream("127.0.0.1", int(port)) as stream:
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await stream.send_all(f"GET /{path} HTTP/1.0\r\nHost: localhost:{port}\r\n{head}\r\n".encode())
        events = Events(stream)
        answer = await events.block()
        assert " 200 " in answer
        assert "text/event-stream" in answer
        yield events


async def test_what_is_said_over_http_is_heard_and_comes_with_its_place(live_hub):
    async with live_hub() as url, httpx.AsyncClient() as client, connected(url, "ada") as ada:
        await ada.get()
        await ada.say(type="join", data={"room": "tea/green"})
        await ada.get("status")
        messages = f"{url}/rooms/tea/green/messages"
        for _ in range(2):
            answer = await client.post(messages, json={"content": "hello", "id": "m1"}, headers={"X-User-ID": "bob"})
            assert answer.status_code == 200
        receipt = answer.json()
        assert (receipt["offset"], receipt["recipients"], receipt["duplicate"]) == (1, 1, True)
        heard = await ada.get("chat")
        assert (heard["content"], heard["user_id"], heard["offset"]) == ("hello", "bob", 1)
        await client.post(messages, json={"type": "notification", "data": [1]})
        assert (await ada.get("notification"))["data"] == [1]
        history = (await client.get(messages)).json()
        assert [message["offset"] for message in history["messages"]] == [1, 2]
        assert (history["offset"], history["epoch"], history["recovered"]) == (2, receipt["epoch"], True)
        after = (await client.get(messages, params={"after": 1, "epoch": receipt["epoch"]})).json()
        assert [message["offset"] for message in after["messages"]] == [2]
        lost = (await client.get(messages, params={"after": 1, "epoch": "other"})).json()
        assert (lost["messages"], lost["recovered"], lost["offset"]) == ([], False, 2)


async def test_a_room_as_server_sent_events_goes_on_where_it_was_left(live_hub):
    async with live_hub() as url, httpx.AsyncClient(timeout=PATIENCE) as client:
        messages, events = f"{url}/rooms/tea/messages", f"{url}/rooms/tea/events"
        assert (await client.get(events)).status_code == 404
        await client.post(messages, json={"content": "0"})
        async with watching(events) as stream:
            opening = await stream.get()
            assert opening["event"] == "position"
            assert orjson.loads(opening["data"])["recovered"] is False
            for number in range(1, 4):
                await client.post(messages, json={"content": str(number)})
            got = await stream.take(3)
            assert [orjson.loads(event["data"])["content"] for event in got] == ["1", "2", "3"]
        for url_of, headers in ((events, {"Last_Event_ID": got[0]["id"]}), (f"{events}?since={got[0]['id']}", {})):
            async with watching(url_of, **headers) as stream:
                opening, *got_again = await stream.take(3)
                assert orjson.loads(opening["data"])["recovered"] is True
                assert opening["id"] == got[0]["id"]
                assert [event["id"] for event in got_again] == [event["id"] for event in got[1:]]
        # An opening is enough to come back, and what is gone is told.
        for since, recovered in ((opening["id"], True), ("nonsense", False), ("other:1", False)):
            async with watching(events, Last_Event_ID=since) as stream:
                told = await stream.get()
                assert orjson.loads(told["data"])["recovered"] is recovered
        await until(lambda: nobody_watches(client, url))


async def nobody_watches(client, url):
    return (await client.get(f"{url}/rooms/tea")).json()["viewers"] == 0


async def test_the_events_of_a_room_end_with_it(live_hub):
    async with live_hub() as url, httpx.AsyncClient(timeout=PATIENCE) as client:
        await client.post(f"{url}/rooms/tea/messages", json={"content": "0"})
        async with watching(f"{url}/rooms/tea/events") as stream:
            await stream.get()
            assert (await client.delete(f"{url}/rooms/tea")).json() == {"success": True, "room": "tea", "clients": 0}
            assert await stream.get() is None


async def test_who_reads_a_room_reads_no_more_of_it_when_it_is_private(live_hub):
    async with live_hub() as url, httpx.AsyncClient(timeout=PATIENCE, headers={"X-User-ID": "ada"}) as client:
        await client.put(f"{url}/rooms/den", json={})
        async with (
            watching(f"{url}/rooms/den/events", X_User_ID="bob") as bob,
            watching(f"{url}/rooms/den/events", X_User_ID="eve") as eve,
        ):
            for each in (bob, eve):
                assert (await each.get())["event"] == "position"
            await client.put(f"{url}/rooms/den", json={"private": True, "members": ["bob"]})
            await client.post(f"{url}/rooms/den/messages", json={"content": "a secret"})
            assert orjson.loads((await bob.get())["data"])["content"] == "a secret"
            told = await eve.get()
            assert (told["event"], orjson.loads(told["data"])["error"]["code"]) == ("error", "NOT_FOUND")
            assert await eve.get() is None


async def test_rooms_are_declared_shown_and_deleted(live_hub):
    async with (
        live_hub() as url,
        httpx.AsyncClient() as client,
        connected(url, "ada") as ada,
        connected(url, "eve") as eve,
    ):
        mine = {"X-User-ID": "ada"}
        options = {"private": True, "members": ["bob"], "history": 7, "slow": "coalesce", "durable": True}
        made = (await client.put(f"{url}/rooms/den", json=options, headers=mine)).json()
        assert (made["owner"], made["options"]["history"], made["offset"], made["oldest"]) == ("ada", 7, 0, 1)
        await ada.say(type="join", room="den")
        await ada.get("status")
        await ada.get("status")
        assert (await client.get(f"{url}/rooms/den", headers=mine)).json()["clients"] == 1
        members = (await client.get(f"{url}/rooms/den/members", headers=mine)).json()
        assert [member["user_id"] for member in members["members"]] == ["ada"]

        hidden = {"X-User-ID": "eve"}
        for path in ("", "/members", "/messages", "/events"):
            assert (await client.get(f"{url}/rooms/den{path}", headers=hidden)).status_code == 404
        assert (await client.post(f"{url}/rooms/den/messages", json={}, headers=hidden)).status_code == 404
        assert (await client.put(f"{url}/rooms/den", json={}, headers=hidden)).status_code == 404
        assert (await client.delete(f"{url}/rooms/den", headers=hidden)).status_code == 404
        said = {"room": "den", "content": "x"}
        assert (await client.post(f"{url}/broadcast", json=said, headers=hidden)).json()["recipients"] == 0
        rooms = (await client.get(f"{url}/rooms", headers=hidden)).json()["rooms"]
        assert [room["name"] for room in rooms] == ["general"]
        clients = (await client.get(f"{url}/clients", headers=hidden)).json()["clients"]
        assert [one["rooms"] for one in clients] == [["general"], ["general"]]

        answer = await client.delete(f"{url}/rooms/den", headers=mine)
        assert answer.json() == {"success": True, "room": "den", "clients": 1}
        assert (await ada.get("status"))["data"]["event"] == "removed"
        assert (await client.delete(f"{url}/rooms/den", headers=mine)).status_code == 404
        assert (await client.delete(f"{url}/rooms/general", headers=mine)).status_code == 409
        assert (await client.put(f"{url}/rooms/%20x", json={})).status_code == 404
        assert (await client.put(f"{url}/rooms/den/messages", json={})).status_code == 405
        assert (await client.put(f"{url}/rooms/den/of/mine", json={})).json()["name"] == "den/of/mine"
        assert (await client.delete(f"{url}/rooms/den/of/mine")).status_code == 200
        await eve.get()


async def test_who_may_only_read_a_room_cannot_write_to_it_over_http_either(live_hub):
    async with live_hub() as url, httpx.AsyncClient() as client:
        declared = await client.put(f"{url}/rooms/news", json={"publishers": ["bob"]}, headers={"X-User-ID": "ada"})
        assert declared.status_code == 200
        for user, status in (("ada", 200), ("bob", 200), ("eve", 403)):
            mine = {"X-User-ID": user}
            said = await client.post(f"{url}/rooms/news/messages", json={"content": "x"}, headers=mine)
            sent = await client.post(f"{url}/broadcast", json={"room": "news", "content": "x"}, headers=mine)
            assert (said.status_code, sent.status_code) == (status, status)
        assert (await client.get(f"{url}/rooms/news")).json()["offset"] == 4


async def test_a_user_and_a_connection_can_be_disconnected(live_hub):
    async with live_hub() as url, httpx.AsyncClient() as client:
        for ends in ("users/bob", "clients/{}"):
            async with connected(url, "ada") as ada, connected(url, "bob") as bob:
                await ada.get()
                client_id = (await bob.get())["data"]["client_id"]
                answer = await client.delete(f"{url}/{ends.format(client_id)}")
                assert answer.json() == {"success": True, "clients": 1}
                with pytest.raises(ConnectionClosed) as closed:
                    await bob.get("nothing more")
                assert closed.value.reason.code == 3503
                await trio.aclose_forcefully(bob.websocket._stream)
                await until(lambda: has(client, url, 1))
            await until(lambda: has(client, url, 0))
        assert (await client.delete(f"{url}/users/nobody")).json()["clients"] == 0
        assert (await client.delete(f"{url}/clients/nobody")).status_code == 404


async def test_the_numbers_add_up(live_hub):
    async with (
        live_hub() as url,
        httpx.AsyncClient() as client,
        connected(url, "ada") as ada,
        connected(url, "bob") as bob,
    ):
        for number in range(5):
            await ada.say(type="chat", content=str(number))
        for _ in range(5):
            await bob.get("chat")
        await ada.say(type="request", id="r", to="bob")
        await bob.get("request")
        stats = (await client.get(f"{url}/stats")).json()
        assert (stats["clients"], stats["users"], stats["rooms"]) == (2, 2, 1)
        assert (stats["messages"], stats["messages_in"], stats["deliveries"]) == (5, 6, 10)
        assert stats["messages_in_per_second"] > 0
        assert stats["bytes_out"] > stats["bytes_in"] > 0
        assert (stats["queued"], stats["slow"], stats["dropped"], stats["closed"]) == (0, 0, 0, {})
        assert (stats["requests"], stats["slowest"]) == (1, [])


async def test_a_durable_room_outlives_the_service(live_hub):
    epoch = None
    for life in range(2):
        async with live_hub() as url, httpx.AsyncClient() as client, connected(url, "ada") as ada:
            if not life:
                await client.put(f"{url}/rooms/log", json={"durable": True}, headers={"X-User-ID": "ada"})
            await ada.say(type="subscribe", id="s", room="log", since={"offset": 0, "epoch": "?"})
            told = (await ada.get("subscribed"))["data"]
            await ada.say(type="publish", id=f"p{life}", room="log", content=str(life))
            assert (await ada.get("ack"))["data"]["offset"] == life + 1
            if life:
                assert told["position"] == {"offset": 1, "epoch": epoch}
                since = {"offset": 0, "epoch": epoch}
                async with connected(url, "bob") as bob:
                    await bob.say(type="subscribe", id="s", room="log", since=since)
                    told = (await bob.get("subscribed"))["data"]
                    assert (told["recovered"], told["replayed"]) == (True, 2)
                    assert [(await bob.get("chat"))["content"] for _ in range(2)] == ["0", "1"]
            epoch = told["position"]["epoch"]


async def test_only_operators_manage_what_is_not_theirs_where_there_are_keys(tmp_path):
    from uait.kernel.host import open_host
    from uait.settings import Settings

    keys = {name: name * 10 for name in ("ann", "bob", "root")}
    sections = {"hub": {"port": 0, "operators": ["root"]}}
    settings = Settings(
        data_dir=tmp_path, only=("hub",), sections=sections, host="127.0.0.1", environ={}, keys=keys, grace=1
    )
    async with open_host(settings, [hub]) as host, httpx.AsyncClient(base_url=host.addresses("hub")[0]) as client:

        async def status(user, method, path, body=None):
            return (await client.request(method, path, json=body, headers={"X-API-Key": keys[user]})).status_code

        assert await status("ann", "PUT", "/rooms/tea", {}) == 200
        assert await status("bob", "PUT", "/rooms/tea", {}) == 403
        assert await status("bob", "DELETE", "/rooms/tea") == 403
        assert await status("bob", "DELETE", "/users/ann") == 403
        assert await status("ann", "DELETE", "/users/ann") == 200
        assert await status("ann", "PUT", "/rooms/general", {}) == 409
        assert await status("root", "PUT", "/rooms/general", {"history": 5}) == 200
        assert await status("root", "DELETE", "/users/ann") == 200
        assert await status("root", "DELETE", "/rooms/tea") == 200
