"""Answers may use what the user once told. Where memory fails, chat does not."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from quart import request

from uait import Context, service
from uait.calls.standing import SCOPE_KEY, Standing
from uait.errors import InternalError


@service(name="memory")
async def memory(ctx: Context) -> Any:
    app = ctx.app()

    @app.get("/memory")
    async def search() -> Any:
        if "broken" in request.args["query"]:
            raise InternalError
        if "strange" in request.args["query"]:
            return {"memories": 7}
        if "slow" in request.args["query"]:
            await trio.sleep_forever()
        user = request.headers.get("X-User-ID", "")
        return {"memories": [{"content": f"{request.args['query']} is liked {user}"}], "count": 1}

    return app


def asked(chat: Any) -> list[str]:
    return [turn["content"] for turn in chat.upstream.requests[-1].json()["messages"]]


async def test_memories_reach_the_model(run_chat: Any) -> None:
    async with run_chat({"memory": memory}) as chat:
        await chat.say("tea")
        system, question = asked(chat)
        assert "tea is liked" in system
        assert question == "tea"
        offline = await chat.say("tea", "offline")
        assert "your memories: “tea is liked" in offline["response"]


@pytest.mark.parametrize("text", ["broken", "strange", "slow"])
async def test_a_failing_memory_does_no_harm(run_chat: Any, text: str) -> None:
    async with run_chat({"memory": memory}, memory_timeout=0.2) as chat:
        await chat.say(text)
        assert asked(chat) == [text]


async def test_memory_can_be_left_out(run_chat: Any) -> None:
    async with run_chat({"memory": memory}) as chat:
        await chat.say("tea", memory=False)
        assert asked(chat) == ["tea"]
    async with run_chat({"memory": memory}, memory=False) as chat:
        await chat.say("tea")
        assert asked(chat) == ["tea"]
        await chat.say("tea", memory=True)
        assert len(asked(chat)) == 2


async def test_who_has_no_memories_is_not_asked_for_again_as_long_as_that_holds(run_chat: Any) -> None:
    asked: list[str] = []
    standing: dict[str, Standing] = {}

    @service(name="memory")
    async def empty(ctx: Context) -> Any:
        app = ctx.app()

        @app.get("/memory")
        async def search() -> Any:
            user = request.headers["X-User-ID"]
            asked.append(user)
            vouched: Any = request.scope
            vouched[SCOPE_KEY].standing = standing.setdefault(user, Standing())
            return {"memories": [], "count": 0}

        return app

    async with run_chat({"memory": empty}) as chat:
        await chat.say("one")
        await chat.say("two")
        assert asked == ["ann"]
        await chat.client.post("/chat", json={"message": "x", "model": "mock/tokens"}, headers={"X-User-ID": "bob"})
        assert asked == ["ann", "bob"]
        standing.pop("ann").holds = False
        await chat.say("three")
        await chat.say("four")
        assert asked == ["ann", "bob", "ann"]
