"""What happens to every request before and after its handler."""

from __future__ import annotations

import logging
import re
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from quart import abort, request
from werkzeug.exceptions import HTTPException

from uait.calls.context import SCOPE_KEY, CallContext, Identity, current_call
from uait.calls.deadline import remaining
from uait.errors import APIError, Conflict, InternalError, NotFound, TooManyRequests, Unavailable
from uait.settings import Limits
from uait.storage import DatabaseBroken
from uait.web import body, query, user_id


@attrs.frozen
class Named:
    name: str
    size: int = 0


UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def _bug() -> None:
    raise ValueError("/secret/path")


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app(limits=Limits(request_timeout=30))
    app.log_of = []

    @app.get("/call")
    async def call() -> Any:
        found = current_call()
        assert found is not None
        return {
            "request_id": found.request_id,
            "traceparent": found.traceparent,
            "tracestate": found.tracestate,
            "user": user_id(),
            "remaining": remaining(),
        }

    @app.route("/sleep", methods=["GET", "POST"])
    async def sleep() -> Any:
        try:
            await trio.sleep(1000)
        finally:
            app.log_of.append(str(trio.current_time()))

    @app.get("/raise/<what>")
    async def throw(what: str) -> Any:
        match what:
            case "api":
                raise Conflict("It is there already.", details={"id": 1}, headers={"X-More": "yes"})
            case "bug":
                await _bug()
            case "group":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_bug)
                    raise NotFound
            case "bugs":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_bug)
            case "late":
                with trio.fail_after(1):
                    await trio.sleep(2)
            case "abort":
                abort(418)
            case "details":
                raise Conflict(details=object())
            case "limit":
                raise TooManyRequests(retry_after=7)
            case "exit":
                raise SystemExit
            case "type":
                return 5
        return None

    return app


# Ids and trace


@pytest.mark.parametrize("path", ["/call", "/missing", "/raise/bug", "/health"])
async def test_every_answer_has_a_request_id(app: Any, ask: Any, path: str) -> None:
    answer = await ask(app, path)
    assert UUID7.fullmatch(answer.headers["x-request-id"])
    answer = await ask(app, path, headers={"X-Request-ID": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.json.get("error", {}).get("request_id", "abc-1") == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ä", "a\x00b"])
async def test_request_ids_that_are_not_sane_are_replaced(app: Any, ask: Any, given: str) -> None:
    answer = await ask(app, "/call", headers={"X-Request-ID": given})
    assert UUID7.fullmatch(answer.headers["x-request-id"])
    assert answer.json["request_id"] == answer.headers["x-request-id"]


async def test_a_trace_goes_on(app: Any, ask: Any) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = await ask(app, "/call", headers={"traceparent": f"00-{trace}-{span}-01", "tracestate": "a=b"})
    version, same, child, flags = answer.json["traceparent"].split("-")
    assert (version, same, flags, answer.json["tracestate"]) == ("00", trace, "01", "a=b")
    assert child != span


async def test_a_broken_trace_is_a_new_one(app: Any, ask: Any) -> None:
    answer = await ask(app, "/call", headers={"traceparent": "00-xyz-01", "tracestate": "a=b"})
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", answer.json["traceparent"])
    assert answer.json["tracestate"] == ""


async def test_a_call_from_this_process_brings_its_own(app: Any, ask: Any) -> None:
    call = CallContext("outer-id", Identity("ann", True), "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "s=1")
    answer = await ask(app, "/call", headers={"X-User-ID": "eve", "X-Request-ID": "other"}, **{SCOPE_KEY: call})
    assert answer.json["request_id"] == answer.headers["x-request-id"] == "outer-id"
    assert answer.json["user"] == "ann"
    assert answer.json["tracestate"] == "s=1"
    assert answer.json["traceparent"].startswith("00-" + "a" * 32)
    assert "b" * 16 not in answer.json["traceparent"]


# Deadlines


async def test_out_of_time_is_504_at_the_deadline(app: Any, ask: Any, autojump_clock: Any, announces: bool) -> None:
    start = trio.current_time()
    answer = await ask(app, "/sleep", headers={"X-Request-Timeout-Ms": "1500"}, announces=announces)
    assert (answer.status, answer.error["code"]) == (504, "DEADLINE_EXCEEDED")
    assert trio.current_time() - start == pytest.approx(1.5)
    assert len(app.log_of) == 1


async def test_deadlines_are_clamped_to_the_limit(app: Any, ask: Any, autojump_clock: Any) -> None:
    start = trio.current_time()
    assert (await ask(app, "/sleep", headers={"X-Request-Timeout-Ms": "999999"})).status == 504
    assert trio.current_time() - start == pytest.approx(30)
    assert (await ask(app, "/sleep")).status == 504
    assert trio.current_time() - start == pytest.approx(60)


async def test_the_handler_sees_what_remains(app: Any, ask: Any, mock_clock: Any) -> None:
    answer = await ask(app, "/call", headers={"X-Request-Timeout-Ms": "2000"})
    assert answer.json["remaining"] == pytest.approx(2)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "abc", "", "1e3", "9" * 13, "\u0661"])
async def test_a_bad_deadline_is_400(app: Any, ask: Any, value: str) -> None:
    answer = await ask(app, "/call", headers={"X-Request-Timeout-Ms": value})
    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


# Failures


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/raise/api", 409, "CONFLICT"),
        ("/raise/bug", 500, "INTERNAL_ERROR"),
        ("/raise/bugs", 500, "INTERNAL_ERROR"),
        ("/raise/group", 404, "NOT_FOUND"),
        ("/raise/late", 504, "DEADLINE_EXCEEDED"),
        ("/raise/abort", 418, "I_M_A_TEAPOT"),
        ("/raise/details", 500, "INTERNAL_ERROR"),
        ("/raise/type", 500, "INTERNAL_ERROR"),
        ("/missing", 404, "NOT_FOUND"),
        ("/raise/a/b", 404, "NOT_FOUND"),
    ],
)
async def test_every_failure_has_the_error_body(
    app: Any, ask: Any, path: str, status: int, code: str, autojump_clock: Any, announces: bool
) -> None:
    answer = await ask(app, path, announces=announces)
    assert answer.complete
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["message"]
    assert answer.error.keys() == {"code", "message", "details", "request_id"}
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


async def test_a_slash_at_the_end_changes_nothing(app: Any, ask: Any) -> None:
    assert (await ask(app, "/call/")).status == 200


async def test_errors_carry_details_and_headers(app: Any, ask: Any) -> None:
    answer = await ask(app, "/raise/api")
    assert answer.error["details"] == {"id": 1}
    assert answer.headers["x-more"] == "yes"
    assert (await ask(app, "/raise/limit")).headers["retry-after"] == "7"


async def test_a_wrong_method_is_405_and_says_which_are_right(app: Any, ask: Any) -> None:
    answer = await ask(app, "/sleep", method="DELETE")
    assert (answer.status, answer.error["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert (await ask(app, "/call", method="BREW")).status == 405


async def test_options_say_which_methods_there_are(app: Any, ask: Any) -> None:
    @app.delete("/sleep")
    async def wake() -> None:
        pass

    answer = await ask(app, "/sleep", method="OPTIONS")
    assert answer.status == 200
    assert set(answer.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("method", ["OPTIONS", "PUT"])
async def test_allowed_methods_are_those_of_the_path_itself(app: Any, ask: Any, method: str) -> None:
    @app.get("/notes/stats")
    async def stats() -> Any:
        return {}

    @app.delete("/notes/<id:note>")
    async def forget(note: str) -> None:
        pass

    answer = await ask(app, "/notes/stats", method=method)
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await ask(app, "/notes/1", method=method)).headers["allow"] == "DELETE, OPTIONS"
    assert (await ask(app, "/notes/1", method="DELETE")).status == 204


async def test_head_has_the_head_of_get_alone(app: Any, ask: Any) -> None:
    answer = await ask(app, "/call", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    missing = await ask(app, "/missing", method="HEAD")
    assert (missing.status, missing.body) == (404, b"")


async def test_a_bug_is_in_the_log_under_the_request_id(app: Any, ask: Any, caplog: Any) -> None:
    answer = await ask(app, "/raise/bug")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert "ValueError" in caplog.text


@pytest.mark.parametrize(
    "failure",
    [InternalError(), DatabaseBroken(), ExceptionGroup("", [Conflict(), ValueError()])],
    ids=["internal", "database", "beside an answer"],
)
async def test_an_answer_that_points_to_the_log_is_found_there(
    app: Any, ask: Any, caplog: Any, announces: bool, failure: Exception
) -> None:
    @app.get("/broken")
    async def broken() -> Any:
        failure.add_note("the disk is gone")
        raise failure

    answer = await ask(app, "/broken", announces=announces)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert "the disk is gone" in caplog.text
    assert b"disk" not in answer.body


async def test_designed_errors_are_not_logged_as_bugs(app: Any, ask: Any, caplog: Any) -> None:
    for path in ("/raise/api", "/missing", "/raise/abort"):
        await ask(app, path)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_handlers_for_errors_still_work(app: Any, ask: Any) -> None:
    @app.errorhandler(Conflict)
    async def conflict(error: Conflict) -> Any:
        return {"mine": error.text}, 410

    @app.errorhandler(HTTPException)
    async def teapot(error: HTTPException) -> Any:
        return {"mine": error.code}, 200

    answer = await ask(app, "/raise/api")
    assert (answer.status, answer.json) == (410, {"mine": "It is there already."})
    assert (await ask(app, "/raise/abort")).json == {"mine": 418}


async def test_what_must_never_be_caught_is_not(app: Any, ask: Any) -> None:
    with pytest.RaisesGroup(SystemExit, flatten_subgroups=True):
        await ask(app, "/raise/exit", announces=True)


async def test_an_answer_that_is_not_acknowledged_is_left_incomplete(app: Any, ask: Any, caplog: Any) -> None:
    @app.get("/half")
    async def half() -> Any:
        async def pieces() -> Any:
            yield b"abc"
            raise ValueError("in the middle")

        return pieces(), 200

    answer = await ask(app, "/half")
    assert (answer.status, answer.body, answer.complete) == (200, b"abc", False)
    assert "in the middle" in caplog.text


# Disconnects


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_when_the_client_leaves_the_handler_is_cancelled_at_once(
    app: Any, connect: Any, announces: bool, method: str, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    with trio.fail_after(5):
        async with connect(app, "/sleep", method=method, announces=announces) as connection:
            if method == "GET":
                await connection.incoming.send({"type": "http.request", "body": b"", "more_body": False})
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave()
    assert len(app.log_of) == 1
    assert connection.outgoing == []
    assert [record.status for record in caplog.records if hasattr(record, "status")] == [499]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_leaves_in_the_middle_of_its_body(app: Any, connect: Any, announces: bool) -> None:
    reached = []

    @app.post("/read")
    async def read() -> Any:
        await request.get_data()
        reached.append(True)
        return {}

    with trio.fail_after(5):
        async with connect(app, "/read", method="POST", announces=announces) as connection:
            await connection.incoming.send({"type": "http.request", "body": b"{", "more_body": True})
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave()
    assert not reached
    assert connection.outgoing == []


async def test_a_disconnect_after_the_answer_disturbs_nothing(app: Any, connect: Any, announces: bool) -> None:
    finished = trio.Event()

    async def slow_server(scope: Any, receive: Any, send: Any) -> None:
        async def send_slowly(message: Any) -> None:
            await send(message)
            if not message.get("more_body", message["type"] == "http.response.start"):
                # The server says that the request is over before the app's last send has returned, as hypercorn does.
                await connection.leave()
                await trio.testing.wait_all_tasks_blocked()
                finished.set()

        await app(scope, receive, send_slowly)

    async with connect(slow_server, "/call", announces=announces) as connection:
        await connection.incoming.send({"type": "http.request", "body": b"", "more_body": False})
    assert finished.is_set()
    assert connection.answer.status == 200


async def test_a_server_that_cannot_send_any_more(app: Any, connect: Any, caplog: Any) -> None:
    stopped = []

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            try:
                while True:
                    yield b"x"
            finally:
                stopped.append(True)

        return pieces(), 200

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        async def fail(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise BrokenPipeError
            await send(message)

        await app(scope, receive, fail)

    with trio.fail_after(5):
        async with connect(broken, "/stream", announces=True):
            pass
    assert stopped
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_cancellation_from_outside_goes_on(app: Any, connect: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    with trio.CancelScope() as scope:
        async with connect(app, "/sleep", announces=True):
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="the server stops")
    assert scope.cancelled_caught
    assert len(app.log_of) == 1
    assert [record.status for record in caplog.records if hasattr(record, "status")] == [499]


async def test_an_answer_that_was_cut_from_outside_counts_as_not_given(app: Any, connect: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            yield b"x"
            await trio.sleep_forever()

        return pieces(), 200

    with trio.CancelScope() as scope:
        async with connect(app, "/stream", announces=True) as connection:
            await connection.until(lambda: connection.answer.body)
            scope.cancel(reason="the server stops")
    assert [record.status for record in caplog.records if hasattr(record, "status")] == [499]


async def test_a_failure_during_cancellation_from_outside_is_logged(app: Any, connect: Any, caplog: Any) -> None:
    @app.get("/messy")
    async def messy() -> Any:
        async def fail_late() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while leaving")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_late)
            nursery.start_soon(trio.sleep_forever)

    with trio.CancelScope() as scope:
        async with connect(app, "/messy", announces=True):
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="the server stops")
    assert scope.cancelled_caught
    assert "while leaving" in caplog.text


# Draining


async def test_finite_requests_have_the_grace_period(app: Any, connect: Any, announces: bool) -> None:
    drain = app.context.drain
    async with connect(app, "/sleep", announces=announces) as connection:
        await trio.testing.wait_all_tasks_blocked()
        drain.begin()
        await trio.testing.wait_all_tasks_blocked()
        assert connection.outgoing == []
        drain.cut()
    assert (connection.answer.status, connection.answer.error["code"]) == (503, "UNAVAILABLE")
    assert connection.answer.headers["retry-after"]


async def test_requests_still_answer_while_draining(app: Any, ask: Any) -> None:
    app.context.drain.begin()
    assert (await ask(app, "/call")).status == 200
    app.context.drain.cut()
    assert (await ask(app, "/sleep")).status == 503


async def test_nothing_of_a_request_is_kept(app: Any, connect: Any) -> None:
    for path in ("/call", "/raise/bug", "/missing"):
        async with connect(app, path, announces=True) as connection:
            pass
        assert not connection.disconnect._callbacks
    assert not app.context.drain._callbacks


# Anything

HEADERS = ["X-Request-ID", "traceparent", "tracestate", "X-Request-Timeout-Ms", "X-User-ID", "Accept"]
HEADERS += ["Authorization", "X-API-Key", "Content-Type", "Content-Length", "Host", "Cookie", "Range", "If-None-Match"]
PATHS = ["/echo", "/find", "/things/1", "/", "/health", "/metrics", "/openapi.json", "/ws"]


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "\x01", "X" * 50]),
    path=st.sampled_from(PATHS) | st.text(max_size=20).map(lambda text: f"/{text}") | st.text(max_size=20),
    text=st.binary(max_size=30),
    headers=st.dictionaries(st.sampled_from(HEADERS), st.binary(max_size=20).map(lambda raw: raw.strip()), max_size=5),
    data=st.binary(max_size=30) | st.just(b'{"name":"x"}'),
    announces=st.booleans(),
)
async def test_whatever_is_sent_is_answered(
    make_app: Any,
    ask: Any,
    method: str,
    path: str,
    text: bytes,
    headers: dict[str, bytes],
    data: bytes,
    announces: bool,
) -> None:
    app = make_app()

    @app.post("/echo")
    async def echo() -> Any:
        return await body(Named)

    @app.get("/find")
    async def find() -> Any:
        return query(Named)

    @app.get("/things/<id:thing>")
    async def thing(thing: str) -> Any:
        return {"id": thing}

    @app.websocket("/ws")
    async def ws() -> None:
        pass

    answer = await ask(
        app,
        "/",
        method=method,
        body=data,
        headers=headers,
        announces=announces,
        path=path,
        raw_path=path.encode("utf-8", "surrogatepass"),
        query_string=text,
    )
    assert answer.complete
    assert answer.status < 500
    assert answer.headers["x-request-id"]
    if method == "HEAD":
        assert answer.body == b""
    elif answer.status >= 400:
        assert answer.error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "status"), [("http://[::1", 400), ("http://host/call", 200), ("http://host", 200), ("*", 404)]
)
async def test_other_forms_of_request_targets(app: Any, ask: Any, path: str, status: int) -> None:
    assert (await ask(app, "/", path=path)).status == status


# Dialects


async def test_errors_in_a_dialect(app: Any, ask: Any) -> None:
    def render(error: APIError, request_id: str) -> dict[str, Any]:
        return {"type": "error", "message": error.text, "id": request_id}

    def broken(error: APIError, request_id: str) -> dict[str, Any]:
        raise ValueError("no")

    app.errors_for("/v1/", render)
    app.errors_for("/v1/broken", broken)
    answer = await ask(app, "/v1/missing")
    assert (answer.status, answer.json["type"]) == (404, "error")
    assert answer.json["id"] == answer.headers["x-request-id"]
    assert (await ask(app, "/v1/broken/x")).error["code"] == "INTERNAL_ERROR"
    assert (await ask(app, "/v10")).error["code"] == "NOT_FOUND"
    app.errors_for("/", render)
    assert (await ask(app, "/v10")).json["type"] == "error"


async def test_unavailable_says_when_to_come_back() -> None:
    assert Unavailable(retry_after=3).headers == {"Retry-After": "3"}


async def test_the_clients_address_is_the_servers_word(app: Any, ask: Any) -> None:
    @app.get("/address")
    async def address() -> Any:
        return {"address": request.remote_addr}

    answer = await ask(app, "/address", headers={"Remote-Addr": "10.0.0.1"})
    assert answer.json == {"address": "127.0.0.1"}
