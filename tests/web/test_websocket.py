"""WebSockets, the same on both quart-trio lines."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from quart import abort, websocket

from uait.errors import Conflict, Forbidden
from uait.settings import Limits
from uait.web import user_id


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app(limits=Limits(queue=4))
    app.seen = []

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/wait")
    async def wait() -> None:
        await websocket.accept()
        try:
            await trio.sleep_forever()
        finally:
            app.seen.append("ended")

    @app.websocket("/who")
    async def who() -> None:
        await websocket.send(user_id())

    @app.websocket("/json")
    async def json() -> None:
        data = await websocket.receive_json()
        await websocket.send_json({"got": data})
        await websocket.close(4000, "enough")

    @app.websocket("/count/<int:number>")
    async def count(number: int) -> None:
        for index in range(number):
            await websocket.send(str(index))

    @app.websocket("/fail/<when>/<how>")
    async def fail(when: str, how: str) -> Any:
        if when == "after":
            await websocket.accept()
        match how:
            case "bug":
                raise ValueError("/secret")
            case "api":
                raise Conflict("Taken already.")
            case "abort":
                abort(401)
            case "group":
                async with trio.open_nursery():
                    raise Forbidden
            case "answer":
                return {"no": 1}, 402
        return None

    @app.get("/plain")
    async def plain() -> Any:
        return {}

    return app


def quiet(caplog: Any) -> bool:
    return not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_messages_come_back_as_they_went(app: Any, connect: Any, announces: bool, caplog: Any) -> None:
    messages = ["a", b"b", b"", "", "ü\0", b"\xff"]
    async with connect(app, "/echo", kind="websocket", announces=announces) as connection:
        for message in messages:
            await connection.say(message)
        await connection.until(lambda: len(connection.heard) == len(messages))
        await connection.leave()
    assert connection.heard == messages
    assert [type(message) for message in connection.heard] == [type(message) for message in messages]
    assert connection.outgoing[0]["type"] == "websocket.accept"
    assert (b"x-request-id") in dict(connection.outgoing[0]["headers"])
    assert quiet(caplog)


async def test_when_the_client_leaves_the_handler_is_cancelled(
    app: Any, connect: Any, announces: bool, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    with trio.fail_after(5):
        async with connect(app, "/wait", kind="websocket", announces=announces) as connection:
            await connection.until(lambda: connection.outgoing)
            await connection.leave()
    assert app.seen == ["ended"]
    assert connection.closed is None
    assert quiet(caplog)
    (record,) = [record for record in caplog.records if hasattr(record, "status")]
    assert (record.status, record.method) == (101, "WEBSOCKET")


@pytest.mark.parametrize("path", ["/echo", "/wait"])
async def test_a_client_that_leaves_before_it_is_heard(
    app: Any, connect: Any, announces: bool, path: str, caplog: Any
) -> None:
    with trio.fail_after(5):
        async with connect(app, path, kind="websocket", announces=announces) as connection:
            await connection.leave()
    assert quiet(caplog)


async def test_a_handler_that_returns_closes_normally(app: Any, connect: Any, announces: bool) -> None:
    async with connect(app, "/count/3", kind="websocket", announces=announces) as connection:
        pass
    assert connection.heard == ["0", "1", "2"]
    assert connection.closed == (1000, "")


async def test_json_and_closing_with_a_code(app: Any, connect: Any, announces: bool) -> None:
    async with connect(app, "/json", kind="websocket", announces=announces) as connection:
        await connection.say('{"a": [1]}')
    assert connection.heard == ['{"got":{"a":[1]}}']
    assert connection.closed == (4000, "enough")


async def test_a_sender_that_is_faster_than_the_handler_is_held_up(app: Any, connect: Any) -> None:
    async with connect(app, "/wait", kind="websocket") as connection:
        for _ in range(100):
            await connection.say("x")
        await trio.testing.wait_all_tasks_blocked()
        # Four are queued, and one is in the hands of the task that waits for room.
        assert connection.incoming.statistics().current_buffer_used == 95
        app.context.drain.cut()


async def test_where_the_server_queues_nothing_is_taken_from_it(app: Any, connect: Any) -> None:
    async with connect(app, "/wait", kind="websocket", announces=True) as connection:
        for _ in range(100):
            await connection.say("x")
        await trio.testing.wait_all_tasks_blocked()
        assert connection.incoming.statistics().current_buffer_used == 100
        app.context.drain.cut()


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/fail/after/bug", 1011, "INTERNAL_ERROR"),
        ("/fail/after/api", 1008, "CONFLICT: Taken already."),
        ("/fail/after/group", 1008, "FORBIDDEN"),
        ("/fail/after/abort", 1008, "UNAUTHORIZED"),
    ],
)
async def test_a_failure_after_the_handshake_closes_with_a_code(
    app: Any, connect: Any, announces: bool, path: str, code: int, reason: str, caplog: Any
) -> None:
    async with connect(app, path, kind="websocket", announces=announces) as connection:
        pass
    closed = connection.closed
    assert closed is not None
    assert closed[0] == code
    assert closed[1].startswith(reason)
    assert "secret" not in closed[1]
    assert quiet(caplog) == (code != 1011)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fail/before/bug", 500, "INTERNAL_ERROR"),
        ("/fail/before/api", 409, "CONFLICT"),
        ("/fail/before/group", 403, "FORBIDDEN"),
        ("/fail/before/abort", 401, "UNAUTHORIZED"),
        ("/missing", 404, "NOT_FOUND"),
        ("/plain", 400, "INVALID_REQUEST"),
        ("/echo?user_id=", 400, "INVALID_REQUEST"),
        ("/echo?user_id=a%00", 400, "INVALID_REQUEST"),
    ],
)
async def test_a_refused_handshake_has_the_error_body(
    app: Any, connect: Any, announces: bool, path: str, status: int, code: str
) -> None:
    async with connect(app, path, kind="websocket", announces=announces) as connection:
        pass
    answer = connection.answer
    assert (answer.status, answer.error["code"], answer.complete) == (status, code, True)
    assert answer.headers["x-request-id"] == answer.error["request_id"]
    assert answer.headers["content-type"] == "application/json"


async def test_a_refusal_by_returning(app: Any, connect: Any) -> None:
    async with connect(app, "/fail/before/answer", kind="websocket") as connection:
        pass
    assert (connection.answer.status, connection.answer.json) == (402, {"no": 1})


async def test_a_refusal_where_the_server_knows_only_yes_and_no(app: Any, connect: Any) -> None:
    async with connect(app, "/missing", kind="websocket", extensions={}) as connection:
        pass
    assert connection.outgoing == [{"type": "websocket.close", "code": 1008}]


async def test_a_websocket_path_asked_by_http(app: Any, ask: Any) -> None:
    answer = await ask(app, "/echo")
    assert (answer.status, answer.error["code"], answer.headers["upgrade"]) == (426, "UPGRADE_REQUIRED", "websocket")


async def test_identity_may_stand_in_the_query(app: Any, make_app: Any, connect: Any) -> None:
    async def who(app: Any, path: str, **headers: str) -> Any:
        async with connect(app, path, kind="websocket", headers=headers) as connection:
            pass
        return connection.heard or connection.answer.status

    assert await who(app, "/who") == ["local"]
    assert await who(app, "/who?user_id=Zo%C3%AB") == ["Zoë"]
    assert await who(app, "/who?user_id=ann", **{"X-User-ID": "bob"}) == ["bob"]
    guarded = make_app(keys={"ann": "k1"})

    @guarded.websocket("/who")
    async def handler() -> None:
        await websocket.send(user_id())

    assert await who(guarded, "/who?user_id=bob") == 401
    assert await who(guarded, "/who?api_key=k2") == 401
    assert await who(guarded, "/who?api_key=k1&user_id=bob") == ["ann"]
    assert await who(guarded, "/who", Authorization="Bearer k1") == ["ann"]


async def test_draining_closes_with_1012(app: Any, connect: Any, announces: bool, caplog: Any) -> None:
    with trio.fail_after(5):
        async with connect(app, "/wait", kind="websocket", announces=announces) as connection:
            await connection.until(lambda: connection.outgoing)
            app.context.drain.begin()
    assert connection.closed is not None
    assert connection.closed[0] == 1012
    assert app.seen == ["ended"]
    assert quiet(caplog)


async def test_while_draining_no_websocket_is_accepted(app: Any, connect: Any) -> None:
    app.context.drain.begin()
    async with connect(app, "/wait", kind="websocket") as connection:
        pass
    assert (connection.answer.status, connection.answer.error["code"]) == (503, "UNAVAILABLE")


async def test_websockets_have_no_deadline(app: Any, connect: Any, autojump_clock: Any) -> None:
    async with connect(app, "/wait", kind="websocket", headers={"X-Request-Timeout-Ms": "5"}) as connection:
        await trio.sleep(80_000)
        assert connection.closed is None
        await connection.leave()


@pytest.mark.parametrize("data", ["{", "", b"\xff", "[" * 200], ids=["cut", "empty", "binary", "deep"])
async def test_a_message_that_is_no_json_is_the_clients_fault(app: Any, connect: Any, data: Any, caplog: Any) -> None:
    async with connect(app, "/json", kind="websocket") as connection:
        await connection.say(data)
        await connection.until(lambda: connection.closed is not None)
    code, reason = connection.closed
    assert code == 1008
    assert reason.startswith("INVALID_JSON")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_waiting_for_messages_ends_after_the_handlers_own_close(app: Any, connect: Any, announces: bool) -> None:
    @app.websocket("/both")
    async def both() -> None:
        async def read() -> None:
            while True:
                await websocket.receive()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await websocket.accept()
            await websocket.close(4000, "enough")

    with trio.fail_after(5):
        async with connect(app, "/both", kind="websocket", announces=announces) as connection:
            await connection.until(lambda: connection.closed is not None)
            await connection.leave()
    assert connection.closed == (4000, "enough")
