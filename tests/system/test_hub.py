"""The hub in a process of its own: other people's clients, a crowd with one who does not read, and clients that go and come back while it is killed.

`wscat` is in `test_section_1.py`, a page in Chromium in `test_browser.py`.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

pytestmark = pytest.mark.system

TALK = [
    {"type": "subscribe", "id": "s1", "room": "tea", "since": None, "presence": "diffs"},
    {"type": "publish", "id": "p1", "room": "tea", "content": "Grüße, 世界"},
    {"type": "publish", "id": "p1", "room": "tea", "content": "Grüße, 世界"},
    {"type": "request", "id": "r1", "to": "nobody"},
]
EXPECTED = ["status", "subscribed", "chat", "ack", "ack", "error"]

NODE_WS = """
const WebSocket = require('ws');
const [url, talk, count] = process.argv.slice(1);
const socket = new WebSocket(url), seen = [];
socket.on('open', () => JSON.parse(talk).forEach(message => socket.send(JSON.stringify(message))));
socket.on('message', data => { seen.push(JSON.parse(data)); if (seen.length == +count) socket.close(1000); });
socket.on('close', code => console.log(JSON.stringify({code, seen})));
"""
PYTHON_WEBSOCKETS = """
import json, sys
from websockets.sync.client import connect
url, talk, count = sys.argv[1:]
with connect(url) as socket:
    for message in json.loads(talk):
        socket.send(json.dumps(message))
    seen = [json.loads(socket.recv(timeout=20)) for _ in range(int(count))]
print(json.dumps({"code": socket.close_code, "seen": seen}))
"""


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where clients are installed, for all tests of this run and the next."""
    folder = tmp_path_factory.getbasetemp().parent / "uait-clients"
    folder.mkdir(exist_ok=True)
    return folder


async def run(*command: str, **options: Any) -> str:
    with trio.fail_after(120):
        done = await trio.run_process([*command], capture_stdout=True, capture_stderr=True, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


def check_talk(told: dict[str, Any]) -> None:
    seen = [message for message in told["seen"] if message["type"] != "presence"]
    assert [message["type"] for message in seen] == EXPECTED
    _, subscribed, chat, first, second, error = seen
    assert subscribed["data"]["position"]["offset"] == 0
    assert (chat["content"], chat["offset"], chat["user_id"]) == ("Grüße, 世界", 1, "ann")
    assert (first["data"]["duplicate"], second["data"]["duplicate"]) == (False, True)
    assert error["data"] == {"code": "NOT_CONNECTED", "ref": "r1"}


@pytest.mark.shared
@pytest.mark.parametrize("service", ["hub", "gateway"])
@pytest.mark.parametrize("client", ["ws", "websockets", "trio-websocket"])
async def test_other_people_s_clients(client: str, service: str, start: Any, tools: Path) -> None:
    only = ("--only", "hub,gateway,discovery")
    async with start(*only, wait=("hub", "gateway")) as process:
        url = process.url(service, "/ws?user_id=ann&general=false", "localhost", "ws")
        arguments = (url, json.dumps(TALK), str(len(EXPECTED)))
        if client == "ws":
            if shutil.which("npm") is None:
                pytest.skip("npm is not installed")
            if not (tools / "node_modules" / "ws").exists():
                await run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tools), "ws@8")
            told = json.loads(await run("node", "-e", NODE_WS, *arguments, cwd=tools))
        elif client == "websockets":
            target = tools / f"python-{sys.version_info.minor}"
            if not target.exists():
                install = subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "websockets"],
                    check=False,
                    timeout=120,
                )
                if install.returncode:
                    pytest.skip("websockets cannot be installed")
            environment = {"PYTHONPATH": str(target)}
            told = json.loads(await run(sys.executable, "-c", PYTHON_WEBSOCKETS, *arguments, env=environment))
        else:
            async with open_websocket_url(url) as socket:
                for message in TALK:
                    await socket.send_message(json.dumps(message))
                with trio.fail_after(20):
                    told = {"code": 1000, "seen": [json.loads(await socket.get_message()) for _ in EXPECTED]}
        check_talk(told)
        assert told["code"] == 1000


class Raw:
    """A WebSocket client that costs next to nothing."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.data = b""

    @classmethod
    async def connect(cls, port: int, user: str, *, buffer: int | None = None) -> Raw:
        sock = trio.socket.socket()
        if buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer)
        await sock.connect(("127.0.0.1", port))
        self = cls(trio.SocketStream(sock))
        await self.stream.send_all(
            f"GET /ws?user_id={user}&general=false HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.data:
            await self.more()
        self.data = self.data.partition(b"\r\n\r\n")[2]
        return self

    async def more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise trio.BrokenResourceError("the hub has closed the connection")
        self.data += data

    async def say(self, **message: Any) -> None:
        payload = json.dumps(message).encode()
        size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        await self.stream.send_all(b"\x81" + size + b"\0\0\0\0" + payload)

    async def get(self) -> Any:
        """The next message, or the close code."""
        while True:
            if len(self.data) >= 2:
                size, head = self.data[1], 2
                if size == 126:
                    size, head = int.from_bytes(self.data[2:4], "big"), 4
                if len(self.data) >= head + size:
                    kind, payload = self.data[0] & 15, self.data[head : head + size]
                    self.data = self.data[head + size :]
                    if kind == 1:
                        return json.loads(payload)
                    if kind == 8:
                        return int.from_bytes(payload[:2], "big")
                    if kind == 9:
                        await self.stream.send_all(b"\x8a\x80\0\0\0\0")
                    continue
            await self.more()


class Crowd:
    """Those who read, and how many of them have heard each message."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.listeners = 0
        self.wrong: list[Any] = []
        self.heard = [0] * (messages + 1)
        self.moved = trio.Event()

    async def listen(self, port: int, user: str, *, task_status: trio.TaskStatus[None]) -> None:
        raw = await Raw.connect(port, user)
        await raw.say(type="subscribe", id="s", room="tea")
        async with raw.stream:
            reached = 0
            while reached < self.messages:
                message = await raw.get()
                if message["type"] == "subscribed":
                    self.listeners += 1
                    task_status.started()
                elif message["type"] == "chat":
                    reached += 1
                    if message["offset"] != reached:
                        self.wrong.append((user, reached, message["offset"]))
                    self.heard[reached] += 1
                    if self.heard[reached] == self.listeners:
                        self.moved.set()

    async def all_have(self, offset: int) -> None:
        while offset > 0 and self.heard[offset] < self.listeners:
            self.moved = trio.Event()
            await self.moved.wait()


@pytest.mark.shared
async def test_one_of_500_does_not_read_and_the_others_lose_nothing(start: Any, http: Any) -> None:
    environment = {"UAIT_HUB_RATE": "0", "UAIT_HUB_QUEUE": "64", "UAIT_HUB_QUEUE_BYTES": "500000"}
    crowd, content = Crowd(messages=300), "x" * 10_000
    async with start("--only", "hub", wait=("hub",), env=environment) as process, http() as client:
        port = process.ports["hub"]
        with trio.fail_after(200):
            stalled = await Raw.connect(port, "stalled", buffer=4096)
            await stalled.say(type="subscribe", id="s", room="tea")
            async with trio.open_nursery() as nursery:
                for number in range(499):
                    await nursery.start(crowd.listen, port, f"user{number}")
                for number in range(1, crowd.messages + 1):
                    # As fast as those go who read: none of them is ever far behind.
                    await crowd.all_have(number - 8)
                    answer = await client.post(process.url("hub", "/rooms/tea/messages"), json={"content": content})
                    assert answer.json()["offset"] == number
            assert crowd.wrong == []
            assert crowd.heard[1:] == [499] * crowd.messages
            stats = (await client.get(process.url("hub", "/stats"))).json()
            assert stats["closed"] == {"3008": 1}
            async with stalled.stream:
                with pytest.raises(trio.BrokenResourceError):
                    while (told := await stalled.get()) != 3008:
                        assert not isinstance(told, int)
                    raise trio.BrokenResourceError("told why")


class Speaker:
    """Says numbers, each under an id, and in its next life again those that were not acknowledged."""

    def __init__(self) -> None:
        self.acknowledged = -1

    async def speak(self, port: int) -> None:
        raw = await Raw.connect(port, "speaker")
        await raw.say(type="subscribe", id="s", room="log")
        number = self.acknowledged + 1
        async with raw.stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, raw)
            while True:
                await raw.say(type="publish", id=f"m{number}", room="log", content=str(number))
                number += 1
                if number % 20 == 0:
                    await trio.sleep(0.005)

    async def _listen(self, raw: Raw) -> None:
        while True:
            message = await raw.get()
            if message["type"] == "ack":
                assert message["data"]["ref"] == f"m{self.acknowledged + 1}"
                self.acknowledged += 1


class Follower:
    """Comes back with its last position, and keeps what it is given."""

    def __init__(self, position: dict[str, Any]) -> None:
        self.position = position
        self.seen: list[int] = []
        self.returns = 0

    async def follow(self, port: int, seconds: float, until: int) -> None:
        """Be connected for so long, or until so many messages are there."""
        raw = await Raw.connect(port, "follower")
        async with raw.stream:
            await raw.say(type="subscribe", id="s", room="log", since=self.position)
            with trio.move_on_after(seconds):
                while len(self.seen) < until and self._take(await raw.get()):
                    pass
        self.returns += 1

    def _take(self, message: Any) -> bool:
        if isinstance(message, int):
            assert message == 3008, "it may be slow, which costs nothing but another return"
            return False
        if message["type"] == "subscribed":
            assert message["data"]["recovered"]
            assert message["data"]["position"] == self.position
        elif "offset" in message:
            assert message["offset"] == self.position["offset"] + 1
            self.position["offset"] += 1
            self.seen.append(int(message["content"]))
        return True


@pytest.mark.shared
async def test_a_thousand_returns_while_the_hub_is_killed_again_and_again(start: Any, http: Any) -> None:
    """Every message once and in order, whenever the follower leaves, and whenever the hub is killed; what was acknowledged is there."""
    chance, lives = random.Random(7), 5
    environment = {"UAIT_HUB_RATE": "0", "UAIT_HUB_HISTORY": "100000", "UAIT_HUB_HISTORY_BYTES": "100000000"}
    speaker, follower = Speaker(), Follower({})
    for life in range(1, lives + 1):
        async with start("--only", "hub", wait=("hub",), env=environment) as process, http() as client:
            port = process.ports["hub"]
            if life == 1:
                made = (await client.put(process.url("hub", "/rooms/log"), json={"durable": True})).json()
                follower.position = {"offset": made["offset"], "epoch": made["epoch"]}
            with trio.fail_after(150):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(speaker.speak, port)
                    while follower.returns < 1000 * life // lives:
                        await follower.follow(port, chance.random() * 0.01, 10**9)
                    if life < lives:
                        process.signal(signal.SIGKILL)
                    nursery.cancel_scope.cancel(reason="this life is over")
                while life == lives and len(follower.seen) <= speaker.acknowledged:
                    await follower.follow(port, 60, speaker.acknowledged + 1)
                if life < lives:
                    await process.wait(10)
    assert follower.returns >= 1000
    assert follower.seen == list(range(len(follower.seen)))
    assert len(follower.seen) > speaker.acknowledged > 1000


@pytest.mark.shared
async def test_who_answers_no_ping_is_gone(start: Any, http: Any) -> None:
    """The listener pings after 20 s of silence and waits as long for the pong; whoever is cut off the net is not listed longer than that."""
    async with start("--only", "hub", wait=("hub",)) as process, http() as client:
        raw = await Raw.connect(process.ports["hub"], "dead")
        await raw.get()
        assert (await client.get(process.url("hub", "/stats"))).json()["clients"] == 1
        with trio.fail_after(60):
            while (await client.get(process.url("hub", "/stats"))).json()["clients"]:
                await trio.sleep(0.5)
        await raw.stream.aclose()


async def test_clients_are_told_to_come_back_not_all_at_once(start: Any) -> None:
    async with start("--only", "hub", wait=("hub",)) as process:
        raws = [await Raw.connect(process.ports["hub"], f"user{number}") for number in range(20)]
        process.signal()
        pauses = []
        for raw in raws:
            async with raw.stream:
                with trio.fail_after(20):
                    while (message := await raw.get())["data"].get("event") != "restart":
                        pass
                    pauses.append(message["data"]["reconnect_after_ms"])
                    assert await raw.get() == 1012
        assert len(set(pauses)) > 10
        assert await process.wait(10) == 0
    with pytest.raises((HandshakeError, OSError, ConnectionClosed)):
        async with open_websocket_url(process.url("hub", "/ws", scheme="ws")):
            pass
