"""The HTTP numbers of a service, and the line that every request leaves in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from uait.calls.context import SCOPE_KEY, CallContext, Identity
from uait.web.metrics import get_or_create


async def numbers(app: Any, ask: Any) -> dict[tuple[str, ...], float]:
    answer = await ask(app, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app()

    @app.get("/things/<id:thing>")
    async def thing(thing: str) -> Any:
        return {"id": thing}

    @app.get("/sleep")
    async def sleep() -> Any:
        await trio.sleep_forever()

    @app.websocket("/ws")
    async def ws() -> None:
        await trio.sleep_forever()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"12345"})

    app.mount("/v1", mounted)
    return app


async def test_requests_are_counted_by_template(app: Any, ask: Any) -> None:
    for path in ("/things/1", "/things/2", "/v1/a", "/v1/b", "/missing/1", "/missing/2"):
        await ask(app, path)
    await ask(app, "/things/1", method="BREW")
    found = await numbers(app, ask)
    assert found["uait_http_requests_total", "GET", "/things/<id:thing>", "200"] == 2
    assert found["uait_http_requests_total", "GET", "/v1/*", "202"] == 2
    assert found["uait_http_requests_total", "GET", "", "404"] == 2
    assert found["uait_http_requests_total", "OTHER", "", "405"] == 1
    assert found["uait_http_request_duration_seconds_count", "GET", "/things/<id:thing>"] == 2


async def test_what_is_under_way_is_counted(app: Any, ask: Any, connect: Any) -> None:
    async with connect(app, "/sleep") as first, connect(app, "/ws", kind="websocket") as second:
        await trio.testing.wait_all_tasks_blocked()
        found = await numbers(app, ask)
        assert found["uait_http_requests_in_flight",] == 2
        assert found["uait_websockets_open",] == 1
        await first.leave()
        await second.leave()
    found = await numbers(app, ask)
    assert found["uait_http_requests_in_flight",] == 1
    assert found["uait_websockets_open",] == 0
    assert found["uait_http_requests_total", "GET", "/sleep", "499"] == 1


async def test_the_numbers_survive_a_restart(make_app: Any, ask: Any) -> None:
    registry = CollectorRegistry()
    for _ in range(2):
        await ask(make_app(registry=registry), "/health")
    found = await numbers(make_app(registry=registry), ask)
    assert found["uait_http_requests_total", "GET", "/health", "200"] == 2


def test_get_or_create() -> None:
    registry = CollectorRegistry()
    counter = get_or_create(Counter, registry, "things", "Things.", "kind")
    counter.labels("a").inc()
    assert get_or_create(Counter, registry, "things", "Things.", "kind") is counter
    with pytest.raises(ValueError, match="Duplicated"):
        get_or_create(Gauge, registry, "things", "Things.")


# The log


async def test_one_line_for_every_request(app: Any, ask: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    answer = await ask(app, "/v1/x?api_key=secret", headers={"X-User-ID": "ann"})
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("uait.test", logging.INFO)
    assert (record.method, record.path, record.status, record.bytes) == ("GET", "/v1/x", 202, 5)
    assert (record.user_id, record.request_id) == ("ann", answer.headers["x-request-id"])
    assert record.duration_ms >= 0
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("raw", "shown"), [(b"/a%0Ab", "/a%0Ab"), (None, r"/a\nb"), (b"/a\nb?x", r"/a\nb"), (b"/\xff", r"/\xff")]
)
async def test_nobody_can_write_lines_of_the_log(
    app: Any, ask: Any, caplog: Any, raw: bytes | None, shown: str
) -> None:
    caplog.set_level(logging.INFO)
    await ask(app, "/a\nb", raw_path=raw)
    (record,) = caplog.records
    assert record.path == shown
    assert "\n" not in record.getMessage()


async def test_a_failed_admission_has_a_line_too(app: Any, ask: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    await ask(app, "/things/1", headers={"X-User-ID": ""})
    (record,) = caplog.records
    assert (record.status, record.user_id) == (400, None)


async def test_the_close_code_of_a_websocket(app: Any, connect: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    async with connect(app, "/ws", kind="websocket") as connection:
        await trio.testing.wait_all_tasks_blocked()
        await connection.leave()
    (record,) = caplog.records
    assert record.close_code == 1006


async def test_services_that_ask_each_other_how_they_are_fill_nobodys_log(app: Any, ask: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    from_another = {SCOPE_KEY: CallContext("id", Identity("ann"))}
    for options in ({}, from_another):
        await ask(app, "/health", **options)
    await ask(app, "/things/1", **from_another)
    assert [(record.path, record.levelno) for record in caplog.records] == [
        ("/health", logging.INFO),
        ("/health", logging.DEBUG),
        ("/things/1", logging.INFO),
    ]
