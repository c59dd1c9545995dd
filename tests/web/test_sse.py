"""Server-sent events."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import APIError, UpstreamError
from uait.web import Event, event_stream, user_id
from uait.web.exchange import EXCHANGE
from uait.web.sse import encode


def read(raw: bytes) -> list[dict[str, str]]:
    """What a browser makes of an event stream: events as dicts, comments under 'comment'."""
    events = []
    for block in raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        event: dict[str, str] = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            text = value.decode().removeprefix(" ")
            key = name.decode() or "comment"
            event[key] = f"{event[key]}\n{text}" if key in event else text
        if block:
            events.append(event)
    return events


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Event("a"), b"data: a\n\n"),
        (Event(""), b"data: \n\n"),
        (Event(b"raw"), b"data: raw\n\n"),
        (Event({"chunk": "ü"}), 'data: {"chunk":"ü"}\n\n'.encode()),
        (Event(None), b"data: null\n\n"),
        (Event("[DONE]", id="7", event="end"), b"id: 7\nevent: end\ndata: [DONE]\n\n"),
        (Event("a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (Event("a\n"), b"data: a\ndata: \n\n"),
        (Event("a\u2028b\u0085c"), "data: a\u2028b\u0085c\n\n".encode()),
        (Event("x", id="1\ndata: forged", event="a\r\nb"), b"id: 1data: forged\nevent: ab\ndata: x\n\n"),
        (Event("x", id="a\0b"), b"data: x\n\n"),
        (Event({"text": "a\nb"}), b'data: {"text":"a\\nb"}\n\n'),
    ],
)
def test_events_on_the_wire(event: Event, wire: bytes) -> None:
    assert encode(event) == wire


LINE_ENDS = str.maketrans({"\r": "\n"})


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_as_it_was_sent(text: str) -> None:
    (event,) = read(encode(Event(text, id="1")))
    assert event == {"id": "1", "data": text.replace("\r\n", "\n").translate(LINE_ENDS)}


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app()
    app.closed = []

    async def numbers(count: int, pause: float = 0, error: Exception | None = None) -> AsyncIterator[Event]:
        task = trio.lowlevel.current_task()
        try:
            for number in range(count):
                yield Event({"number": number, "user": user_id()}, id=str(number))
                await trio.sleep(pause)
            if error is not None:
                raise error
        finally:
            assert trio.lowlevel.current_task() is task
            app.closed.append(True)

    @app.get("/numbers")
    async def finite() -> Any:
        return event_stream(numbers(3))

    @app.get("/slow")
    async def slow() -> Any:
        return event_stream(numbers(3, pause=40))

    @app.get("/endless")
    async def endless() -> Any:
        return event_stream(numbers(10**9, pause=1000), endless=True, headers={"X-More": "1"})

    @app.get("/fast")
    async def fast() -> Any:
        return event_stream(numbers(10**9))

    @app.get("/fails")
    async def fails() -> Any:
        return event_stream(numbers(1, error=UpstreamError("The model server is gone.")))

    @app.get("/bug")
    async def bug() -> Any:
        return event_stream(numbers(1, error=ValueError("/secret")))

    @app.get("/dialect")
    async def dialect() -> Any:
        def farewell(error: APIError) -> bytes:
            return b'data: {"type":"' + error.error_code.encode() + b'"}\n\n'

        return event_stream(numbers(1, pause=10**6), farewell=farewell)

    return app


async def test_events_come_and_the_stream_ends(app: Any, ask: Any, announces: bool) -> None:
    answer = await ask(app, "/numbers", headers={"X-User-ID": "ann"}, announces=announces)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    assert answer.complete
    assert [(e["id"], e["data"]) for e in read(answer.body)] == [
        (str(n), orjson.dumps({"number": n, "user": "ann"}).decode()) for n in range(3)
    ]
    assert app.closed == [True]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("sent", "has_last_words", "complete"),
    [
        ([b"data: a", b""], True, True),
        ([b"event: done", b"data: " + b"x" * 5000, b""], False, True),
        ([b"data: a", b"", b"event: done", b"data: b", b""], False, True),
        ([b"event: done", b"data: b", b"", b"data: c", b""], True, True),
        ([b"event: done", b"data: b"], False, False),
        ([b"data: a", b"", b"data: b"], False, False),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 10000])
async def test_the_last_words_of_a_stream_do_not_depend_on_its_pieces(
    app: Any, ask: Any, sent: list[bytes], end: bytes, has_last_words: bool, complete: bool, size: int
) -> None:
    wire = b"".join(line + end for line in sent)

    async def far(scope: Any, receive: Any, send: Any) -> None:
        scope[EXCHANGE].last_events = (b"event: done",)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(wire), size):
            await send({"type": "http.response.body", "body": wire[start : start + size], "more_body": True})
        raise UpstreamError("The instance is gone.")

    app.mount("/far", far)
    answer = await ask(app, "/far")
    assert answer.body.startswith(wire)
    assert (b"event: error" in answer.body[len(wire) :], answer.complete) == (has_last_words, complete)


async def test_silence_is_filled_with_comments(app: Any, ask: Any, autojump_clock: Any) -> None:
    events = read((await ask(app, "/slow")).body)
    assert [list(event) for event in events] == [
        *[["id", "data"], ["comment"], ["comment"]] * 3,
    ]
    assert events[1] == {"comment": "keep-alive"}


async def test_the_first_event_goes_out_before_the_second_is_made(app: Any, connect: Any, announces: bool) -> None:
    async with connect(app, "/endless", announces=announces) as connection:
        await connection.until(lambda: connection.answer.body)
        assert len(read(connection.answer.body)) == 1
        assert connection.answer.headers["x-more"] == "1"
        await connection.leave()


async def test_when_the_client_leaves_the_iterator_is_closed(
    app: Any, connect: Any, announces: bool, caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    with trio.fail_after(5):
        async with connect(app, "/endless", announces=announces) as connection:
            await connection.until(lambda: connection.answer.body)
            await connection.leave()
    assert app.closed == [True]
    assert not connection.answer.complete
    assert [record.status for record in caplog.records if hasattr(record, "status")] == [499]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_does_not_read_holds_the_iterator_up(app: Any, connect: Any) -> None:
    gate = trio.Semaphore(0)
    sent = 0

    async def slow_server(scope: Any, receive: Any, send: Any) -> None:
        async def send_slowly(message: Any) -> None:
            nonlocal sent
            await gate.acquire()
            sent += 1
            await send(message)

        await app(scope, receive, send_slowly)

    async with connect(slow_server, "/fast", announces=True) as connection:
        for _ in range(5):
            gate.release()
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 5
        assert len(read(connection.answer.body)) == 4
        await connection.leave()
    assert app.closed == [True]


async def test_a_client_that_does_not_read_gets_no_comments(app: Any, connect: Any, autojump_clock: Any) -> None:
    async def slow_server(scope: Any, receive: Any, send: Any) -> None:
        async def send_slowly(message: Any) -> None:
            await trio.sleep(100)
            await send(message)

        await app(scope, receive, send_slowly)

    async with connect(slow_server, "/numbers", announces=True) as connection:
        pass
    assert [list(event) for event in read(connection.answer.body)] == [["id", "data"]] * 3


@pytest.mark.parametrize(("path", "code"), [("/fails", "UPSTREAM_ERROR"), ("/bug", "INTERNAL_ERROR")])
async def test_a_failure_becomes_the_last_event(
    app: Any, ask: Any, announces: bool, path: str, code: str, caplog: Any
) -> None:
    answer = await ask(app, path, announces=announces)
    first, last = read(answer.body)
    assert first["id"] == "0"
    assert last["event"] == "error"
    error = orjson.loads(last["data"])["error"]
    assert (error["code"], error["request_id"]) == (code, answer.headers["x-request-id"])
    assert "secret" not in last["data"]
    assert answer.complete
    assert ("/secret" in caplog.text) == (path == "/bug")


async def test_the_deadline_becomes_the_last_event(app: Any, ask: Any, autojump_clock: Any) -> None:
    start = trio.current_time()
    answer = await ask(app, "/slow", headers={"X-Request-Timeout-Ms": "50000"})
    assert trio.current_time() - start == pytest.approx(50)
    assert orjson.loads(read(answer.body)[-1]["data"])["error"]["code"] == "DEADLINE_EXCEEDED"
    assert answer.complete
    assert app.closed == [True]


async def test_an_endless_stream_has_no_deadline_of_ours(app: Any, connect: Any, autojump_clock: Any) -> None:
    async with connect(app, "/endless", announces=True) as connection:
        await trio.sleep(10_000)
        assert not connection.answer.complete
        await connection.leave()
    start = trio.current_time()
    async with connect(app, "/endless", headers={"X-Request-Timeout-Ms": "5000"}) as connection:
        pass
    assert trio.current_time() - start == pytest.approx(5)


async def test_endless_streams_end_as_soon_as_the_service_drains(app: Any, connect: Any, announces: bool) -> None:
    with trio.fail_after(5):
        async with connect(app, "/endless", announces=announces) as connection:
            await connection.until(lambda: connection.answer.body)
            app.context.drain.begin()
    assert orjson.loads(read(connection.answer.body)[-1]["data"])["error"]["code"] == "UNAVAILABLE"
    assert connection.answer.complete
    assert app.closed == [True]


async def test_an_endless_stream_that_begins_while_draining_ends_at_once(app: Any, ask: Any) -> None:
    app.context.drain.begin()
    with trio.fail_after(5):
        answer = await ask(app, "/endless")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")


async def test_finite_streams_have_the_grace_period(app: Any, connect: Any, autojump_clock: Any) -> None:
    async with connect(app, "/slow") as connection:
        await connection.until(lambda: connection.answer.body)
        app.context.drain.begin()
        await trio.sleep(50)
        assert not connection.answer.complete
        app.context.drain.cut()
    assert orjson.loads(read(connection.answer.body)[-1]["data"])["error"]["code"] == "UNAVAILABLE"


async def test_a_dialect_says_goodbye_in_its_own_way(app: Any, ask: Any, autojump_clock: Any) -> None:
    answer = await ask(app, "/dialect", headers={"X-Request-Timeout-Ms": "1000"})
    assert answer.body.endswith(b'data: {"type":"DEADLINE_EXCEEDED"}\n\n')


async def test_nothing_follows_a_piece_that_was_cut(app: Any, connect: Any, autojump_clock: Any) -> None:
    stuck = []

    async def stuck_server(scope: Any, receive: Any, send: Any) -> None:
        async def send_until_stuck(message: Any) -> None:
            stuck.append(message)
            if len(stuck) == 3:
                await trio.sleep_forever()
            await send(message)

        await app(scope, receive, send_until_stuck)

    async with connect(stuck_server, "/fast", headers={"X-Request-Timeout-Ms": "1000"}, announces=True) as connection:
        pass
    assert len(stuck) == 3
    assert not connection.answer.complete


async def test_head_of_an_endless_stream(app: Any, ask: Any) -> None:
    with trio.fail_after(5):
        answer = await ask(app, "/endless", method="HEAD")
    assert (answer.status, answer.body, answer.complete) == (200, b"", True)


async def test_any_async_iterable_will_do(make_app: Any, ask: Any) -> None:
    class Twice:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Event:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return Event(str(self.left))

    app = make_app()

    @app.get("/")
    async def twice() -> Any:
        return event_stream(Twice())

    assert (await ask(app, "/")).body == b"data: 1\n\ndata: 0\n\n"


async def test_a_function_can_send_the_events_from_several_tasks(make_app: Any, ask: Any, autojump_clock: Any) -> None:
    app = make_app()

    @app.get("/")
    async def both() -> Any:
        async def produce(send: Any) -> None:
            async def one(number: int) -> None:
                await trio.sleep(number)
                await send(Event(str(number)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, 2)
                nursery.start_soon(one, 1)

        return event_stream(produce)

    assert (await ask(app, "/")).body == b"data: 1\n\ndata: 2\n\n"


async def test_the_end_waits_for_a_comment_on_its_way(make_app: Any, connect: Any, autojump_clock: Any) -> None:
    app = make_app()

    @app.get("/")
    async def slow() -> Any:
        async def events() -> AsyncIterator[Event]:
            yield Event("first")
            await trio.sleep(20)

        return event_stream(events(), ping=15)

    sent = []

    async def slow_server(scope: Any, receive: Any, send: Any) -> None:
        async def send_slowly(message: Any) -> None:
            if message.get("body", b"").startswith(b":"):
                await trio.sleep(10)  # the client reads again only after the last event
            sent.append(message.get("body"))
            await send(message)

        await app(scope, receive, send_slowly)

    async with connect(slow_server, "/", announces=True) as connection:
        pass
    assert sent[1:] == [b"data: first\n\n", b": keep-alive\n\n", b""]
    assert connection.answer.complete
