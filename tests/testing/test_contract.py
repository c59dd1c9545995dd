"""The contract check fails for the service that breaks a promise, and says which."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from uait import Context, ServiceSpec, service
from uait.errors import ServiceFailed
from uait.testing import assert_service_contract


@service
async def good(ctx: Context) -> Any:
    return ctx.app()


def raw(answer: Any, name: str = "raw") -> ServiceSpec:
    """A service that answers what `answer(path)` says: status and JSON, or bytes as they are."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status, value = answer(scope["path"])
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def factory(ctx: Context) -> Any:
        return app

    return ServiceSpec(factory=factory, name=name)


HEALTHY = {"status": "healthy", "service": "raw"}
MISSING = {"error": {"code": "NOT_FOUND", "message": "no", "request_id": "r"}}


async def test_a_good_service_passes() -> None:
    await assert_service_contract(good)
    await assert_service_contract(raw(lambda path: (200, HEALTHY) if path == "/health" else (404, MISSING)))


async def test_a_proxy_for_everything_else_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    await assert_service_contract(good)


@pytest.mark.parametrize(
    ("health", "missing", "reason"),
    [
        ((503, HEALTHY), (404, MISSING), "/health answers 503"),
        ((200, {"service": "another"}), (404, MISSING), "does not say which service this is"),
        ((200, HEALTHY), (200, {}), "an unknown path answers 200"),
        ((200, b"healthy"), (404, MISSING), "does not say which service this is: healthy"),
        ((200, HEALTHY), (404, {"oops": 1}), "404 is not in the common form"),
        ((200, HEALTHY), (404, {"error": "oops"}), "404 is not in the common form"),
        ((200, HEALTHY), (404, b"no such page"), "404 is not in the common form: no such page"),
    ],
)
async def test_wrong_answers_are_told(health: Any, missing: Any, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        await assert_service_contract(raw(lambda path: health if path == "/health" else missing))


async def test_a_start_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.testing.contract.START", 0.2)

    @service
    async def sleepy(ctx: Context) -> Any:
        await trio.sleep(60)

    with pytest.raises(ServiceFailed, match=r"it was not ready within 0.2 s"):
        await assert_service_contract(sleepy)


async def test_a_service_that_starts_only_once_is_told() -> None:
    @service
    async def once(ctx: Context) -> Any:
        (ctx.data_dir / "mark").touch(exist_ok=False)
        return ctx.app()

    with pytest.raises(ServiceFailed, match="FileExistsError"):
        await assert_service_contract(once)


async def test_a_service_that_crashes_when_a_client_leaves_is_told() -> None:
    @service
    async def touchy(ctx: Context) -> Any:
        async def crash() -> None:
            raise RuntimeError("I cannot bear this")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            content = json.dumps({"service": "touchy"} if scope["path"] == "/health" else MISSING).encode()
            status = 200 if scope["path"] == "/health" else 404
            if scope["method"] == "POST":
                ctx.nursery.start_soon(crash)
                await trio.sleep_forever()
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": content})

        return app

    with pytest.raises(AssertionError, match="touchy does not answer"):
        await assert_service_contract(touchy)


async def test_a_teardown_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.testing.contract.GRACE", -1.5)  # so that half a second is too long

    @service
    async def clingy(ctx: Context) -> Any:
        yield ctx.app()
        await trio.sleep(0.6)

    with pytest.raises(AssertionError, match=r"clingy took \d\.\d s to stop"):
        await assert_service_contract(clingy)
