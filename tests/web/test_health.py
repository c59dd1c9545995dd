"""What a service says of itself."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from uait.web.health import PATIENCE


@pytest.fixture
async def app(make_app: Any) -> Any:
    return make_app()


async def test_health_has_the_agreed_shape(app: Any, ask: Any) -> None:
    app.context.add_health_fact("clients", lambda: 3)
    found = (await ask(app, "/health")).json
    assert found.keys() == {"status", "service", "version", "timestamp", "uptime_seconds", "clients"}
    assert (found["status"], found["service"], found["version"], found["clients"]) == (
        "healthy",
        "test-service",
        "1.2.3",
        3,
    )
    assert type(found["timestamp"]) is int
    assert abs(found["timestamp"] - time.time()) < 5


async def test_uptime_counts_from_the_start(app: Any, ask: Any, mock_clock: Any) -> None:
    mock_clock.jump(90.5)
    assert (await ask(app, "/health")).json["uptime_seconds"] == pytest.approx(90.5)


async def _raise() -> None:
    raise OSError("/secret: disk full")


async def _text() -> str:
    return "degraded: two of three"


@pytest.mark.parametrize(
    ("check", "status", "code", "shown"),
    [
        (lambda: True, "healthy", 200, True),
        (lambda: {"size": 5}, "healthy", 200, {"size": 5}),
        (lambda: None, "healthy", 200, None),
        (lambda: False, "degraded", 200, False),
        (_text, "degraded", 200, "degraded: two of three"),
        (_raise, "unhealthy", 503, "unhealthy"),
    ],
)
async def test_checks(app: Any, ask: Any, check: Any, status: str, code: int, shown: Any) -> None:
    app.context.add_health_check("good", lambda: True)
    app.context.add_health_check("this", check)
    answer = await ask(app, "/health")
    assert (answer.status, answer.json["status"]) == (code, status)
    assert answer.json["checks"] == {"good": True, "this": shown}
    assert b"secret" not in answer.body


async def test_checks_run_in_parallel_under_one_deadline(app: Any, ask: Any, autojump_clock: Any) -> None:
    for number in range(20):
        app.context.add_health_check(f"hangs {number}", trio.sleep_forever)
    app.context.add_health_fact("count", trio.sleep_forever)
    app.context.add_health_check("good", lambda: True)
    start = trio.current_time()
    answer = await ask(app, "/health")
    assert trio.current_time() - start == pytest.approx(PATIENCE)
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert answer.json["checks"]["good"] is True
    assert answer.json["checks"]["hangs 7"].startswith("degraded")
    assert answer.json["count"] is None


async def test_a_failing_fact_does_not_take_the_answer_down(app: Any, ask: Any) -> None:
    app.context.add_health_fact("count", _raise)
    answer = await ask(app, "/health")
    assert (answer.status, answer.json["status"], answer.json["count"]) == (200, "degraded", None)


async def test_probes(app: Any, ask: Any) -> None:
    assert (await ask(app, "/health/live")).status == 200
    assert (await ask(app, "/health/ready")).status == 200
    app.context.drain.begin()
    assert (await ask(app, "/health/live")).status == 200
    answer = await ask(app, "/health/ready")
    assert (answer.status, answer.error["code"]) == (503, "UNAVAILABLE")
    assert (await ask(app, "/health")).json["status"] == "degraded"


async def test_service_information(app: Any, ask: Any) -> None:
    @app.post("/things/<id:thing>")
    async def thing(thing: str) -> Any:
        return {}

    @app.websocket("/ws")
    async def ws() -> None:
        pass

    found = (await ask(app, "/")).json
    assert found.keys() == {"service", "version", "status", "description", "endpoints"}
    assert (found["service"], found["description"], found["status"]) == (
        "test-service",
        "A service for tests",
        "running",
    )
    assert {"POST /things/<id:thing>", "WEBSOCKET /ws", "GET /health", "GET /openapi.json"} <= set(found["endpoints"])


async def test_without_a_version_of_its_own_a_service_has_ours(make_app: Any, ask: Any) -> None:
    from importlib.metadata import version

    assert (await ask(make_app(version=""), "/health")).json["version"] == version("uait")
