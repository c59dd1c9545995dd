"""What clients do all day, good ones and others: each function is one visit, on connections of its own, by bytes."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs
import trio
from hostile.corpus import corpus, play
from wire import TEXT, Answer, Wire, close_frame, dial, frame, handshake, request

USERS = [f"soak-{i}" for i in range(20)]
ROOMS = [f"room-{i}" for i in range(10)]
JSON = "Content-Type: application/json"
_HARMLESS = tuple(
    case for case in corpus(post="/chat") if sum(len(s) for s in case.steps if isinstance(s, bytes)) < 50_000
)


@attrs.define
class Visit:
    """Who comes, to which ports, and with what luck. All chance is in `dice`."""

    ports: Mapping[str, int]
    dice: random.Random
    counts: Counter[str]

    @property
    def user(self) -> str:
        return self.dice.choice(USERS)

    def dial(self, service: str, **options: Any) -> Any:
        return dial(self.ports[service], **options)

    def check(self, what: str, answer: Answer, *allowed: int) -> Answer:
        """Count an honest client's answer; another status than those expected is a finding."""
        if answer.status not in (allowed or (200, 201, 204)):
            self.counts[f"unexpected: {what} {answer.status}"] += 1
        return answer


Doing: TypeAlias = Callable[[Visit], Awaitable[None]]


def post(path: str, user: str, body: dict[str, Any], *headers: str) -> bytes:
    return request(path, JSON, f"X-User-ID: {user}", *headers, method="POST", body=json.dumps(body).encode())


async def look_around(visit: Visit) -> None:
    for service in visit.ports:
        async with visit.dial(service) as wire:
            for path in ("/health", "/", "/metrics"):
                visit.check(path, await wire.ask(path))
    async with visit.dial("gateway") as wire:
        visit.check("models", await wire.ask("/api/v1/models"))


async def chat(visit: Visit) -> None:
    user = visit.user
    async with visit.dial("gateway") as wire:
        await wire.send(post("/api/v1/chat", user, {"message": "What did I say about the sea?"}))
        answer = visit.check("chat", await wire.answer())
        if answer.status == 200:
            await _forget(visit, wire, user, answer.json["conversation_id"])


async def _forget(visit: Visit, wire: Wire, user: str, conversation: str) -> None:
    """So that the amount of data stays what it is."""
    path = f"/api/v1/conversations/{conversation}"
    visit.check("delete", await wire.ask(path, f"X-User-ID: {user}", method="DELETE"))


async def stream(visit: Visit) -> None:
    user = visit.user
    service, path = visit.dice.choice([("gateway", "/api/v1/chat"), ("chat", "/chat")])
    async with visit.dial(service, receive_buffer=visit.dice.choice([None, 4096])) as wire:
        await wire.send(post(path, user, {"message": "Tell me a long story, word by word.", "stream": True}))
        visit.check("stream", await wire.head())
        if visit.dice.random() < 0.5:  # gone in the middle, in one way or the other
            await trio.sleep(visit.dice.random() * 0.05)
            if visit.dice.random() < 0.5:
                wire.reset()
            return
        pieces = [piece async for piece in wire.chunks()]
    last = [line for line in b"".join(pieces).split(b"\n") if line.startswith(b"data: {")][-1]
    async with visit.dial("gateway") as wire:
        await _forget(visit, wire, user, json.loads(last[6:])["conversation_id"])


async def remember(visit: Visit) -> None:
    user = f"X-User-ID: {visit.user}"
    async with visit.dial("memory") as wire:
        await wire.send(
            post("/memory", user[11:], {"content": f"I like the sea, {visit.dice.random()}", "tags": ["sea"]})
        )
        made = visit.check("remember", await wire.answer())
        visit.check("recall", await wire.ask("/memory?query=sea&limit=5", user))
        visit.check("forget", await wire.ask(f"/memory/{made.json['id']}", user, method="DELETE"))


async def orchestrate(visit: Visit) -> None:
    async with visit.dial("orchestrator") as wire:
        await wire.send(
            post("/api/v1/orchestrate", visit.user, {"userRequest": "Help me with memory and the hub's rooms"})
        )
        if visit.dice.random() < 0.2:
            await trio.sleep(visit.dice.random() * 0.02)
            wire.reset()
            return
        visit.check("orchestrate", await wire.answer())


async def meet(visit: Visit) -> None:
    """In a room of the hub, by the gateway or not; some never read, some are gone without a word."""
    service = visit.dice.choice(["hub", "gateway"])
    async with visit.dial(service, receive_buffer=4096) as wire:
        await wire.send(handshake(f"/ws?user_id={visit.user}"))
        visit.check("websocket", await wire.head(), 101)
        room = visit.dice.choice(ROOMS)
        await wire.send(frame(TEXT, json.dumps({"type": "join", "data": {"room": room}}).encode()))
        for _ in range(visit.dice.randrange(1, 20)):
            said = {"type": "chat", "room": room, "content": "x" * visit.dice.choice([10, 200, 5000])}
            await wire.send(frame(TEXT, json.dumps(said).encode()))
            await trio.sleep(0.02)
        way = visit.dice.random()
        if way < 0.3:
            wire.reset()
        elif way < 0.7:
            await wire.send(close_frame())
            with trio.move_on_after(10):
                await wire.close_code()


async def read_slowly(visit: Visit) -> None:
    async with visit.dial(visit.dice.choice(list(visit.ports)), receive_buffer=4096) as wire:
        await wire.send(request("/openapi.json") * 20)
        for _ in range(20):
            await wire.stream.receive_some(500)
            await trio.sleep(0.1)
        wire.reset()


async def misbehave(visit: Visit) -> None:
    case = visit.dice.choice(_HARMLESS)
    with trio.move_on_after(10):
        async with visit.dial(visit.dice.choice(["gateway", "chat", "hub"])) as wire:
            await play(case, wire)


async def talk(visit: Visit) -> None:
    """On the chat service's WebSocket, where an answer may be cancelled by leaving."""
    async with visit.dial("chat") as wire:
        await wire.send(handshake(f"/ws/chat?user_id={visit.user}"))
        visit.check("ws/chat", await wire.head(), 101)
        await wire.send(frame(TEXT, json.dumps({"message": "Hello"}).encode()))
        with trio.move_on_after(visit.dice.random() * 0.1):
            while True:
                await wire.frame()
        await wire.send(close_frame())


DOINGS: tuple[tuple[Doing, int], ...] = (
    (look_around, 1), (chat, 6), (stream, 8), (remember, 4), (orchestrate, 2), (meet, 6), (read_slowly, 2), (misbehave, 5), (talk, 3),
)  # fmt: skip
"""And how often each is done beside the others."""


async def visit_once(ports: Mapping[str, int], dice: random.Random, counts: Counter[str]) -> None:
    """One visit, by chance. An end by the server where the client could not expect one is counted, not raised."""
    (doing,) = dice.choices([doing for doing, _ in DOINGS], [weight for _, weight in DOINGS])
    try:
        with trio.fail_after(60):
            await doing(Visit(ports, dice, counts))
        counts[doing.__name__] += 1
    except (EOFError, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        counts[f"unexpected: {doing.__name__} {type(error).__name__}"] += 1
