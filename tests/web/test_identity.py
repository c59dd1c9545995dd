"""Who a request is from."""

from __future__ import annotations

from typing import Any

import pytest

from uait.calls.context import SCOPE_KEY, CallContext, Identity
from uait.web import identity, user_id


def add_who(app: Any) -> Any:
    @app.get("/who")
    async def who() -> Any:
        return {"user": user_id(), "authenticated": identity().authenticated}

    return app


@pytest.fixture
async def local(make_app: Any) -> Any:
    return add_who(make_app())


@pytest.fixture
async def guarded(make_app: Any) -> Any:
    return add_who(make_app(keys={"ann": "key-of-ann", "bob": "key-of-bob"}))


@pytest.mark.parametrize("name", ["ann", "a b", "x" * 128, "Zoë", "李", "o'x;--"])
async def test_local_mode_takes_the_name(local: Any, ask: Any, name: str) -> None:
    assert (await ask(local, "/who", headers={"X-User-ID": name})).json == {"user": name, "authenticated": False}


async def test_local_mode_without_a_name(local: Any, ask: Any) -> None:
    assert (await ask(local, "/who")).json["user"] == "local"


@pytest.mark.parametrize("name", ["", "  ", "x" * 129, "a\0b", "a\nb", "a\x7fb", b"\xff", "a\u0085b"])
async def test_local_mode_refuses_bad_names(local: Any, ask: Any, name: str | bytes) -> None:
    answer = await ask(local, "/who", headers={"X-User-ID": name})
    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer key-of-ann"},
        {"Authorization": "bearer  key-of-ann "},
        {"X-API-Key": "key-of-ann"},
        {"X-API-Key": "key-of-ann", "X-User-ID": "bob"},
        {"Authorization": "Bearer key-of-ann", "X-API-Key": "key-of-bob"},
    ],
)
async def test_a_key_says_who_it_is(guarded: Any, ask: Any, headers: dict[str, str]) -> None:
    assert (await ask(guarded, "/who", headers=headers)).json == {"user": "ann", "authenticated": True}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-User-ID": "ann"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic key-of-ann"},
        {"Authorization": "key-of-ann"},
        {"Authorization": b"Bearer \xff"},
        {"X-API-Key": ""},
        {"X-API-Key": "key-of-an"},
        {"X-API-Key": "key-of-ann\0"},
    ],
)
@pytest.mark.parametrize("path", ["/who", "/", "/metrics", "/openapi.json", "/missing", "//health", "/health/x"])
async def test_no_key_no_answer(guarded: Any, ask: Any, headers: dict[str, str], path: str) -> None:
    answer = await ask(guarded, path, headers=headers)
    assert (answer.status, answer.error["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_probes_need_no_key(guarded: Any, ask: Any, path: str) -> None:
    assert (await ask(guarded, path)).status == 200


async def test_a_key_in_the_query_counts_for_websockets_only(guarded: Any, ask: Any) -> None:
    assert (await ask(guarded, "/who?api_key=key-of-ann")).status == 401


async def test_a_call_from_this_process_needs_no_key(guarded: Any, ask: Any) -> None:
    answer = await ask(guarded, "/who", **{SCOPE_KEY: CallContext("id", Identity("bob", True))})
    assert answer.json == {"user": "bob", "authenticated": True}


def test_background_work_is_local() -> None:
    assert identity() == Identity("local", False)
