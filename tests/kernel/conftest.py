"""Small raw ASGI services, so that the kernel is tested without the web face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from uait.calls.client import Calls
from uait.kernel.host import Host, open_host
from uait.kernel.service import Context, ServiceSpec
from uait.settings import Settings

OpenHost = Callable[..., AbstractAsyncContextManager[Host]]


async def answer(send: Any, value: Any, status: int = 200) -> None:
    body = json.dumps(value).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with its path; knows no lifespan."""
    if scope["type"] != "http":
        raise RuntimeError("only http")
    await answer(send, {"path": scope["path"]})


async def plain(ctx: Context) -> Any:
    return plain_app


@pytest.fixture
def host_of(tmp_path: Path) -> OpenHost:
    """`async with host_of(spec, ..., grace=1) as host`: a host that runs just these specs, on free ports."""

    @asynccontextmanager
    async def opened(*specs: ServiceSpec, grace: float = 1.0, **changes: Any) -> AsyncIterator[Host]:
        settings = Settings(
            data_dir=tmp_path / "data", only=tuple(spec.name for spec in specs), grace=grace, environ={}, **changes
        )
        async with open_host(settings, specs) as host:
            yield host

    return opened


@pytest.fixture
def ask() -> Callable[..., Any]:
    """`await ask(host, "name", "/path")`: the JSON answer to an in-process call from outside any service."""

    async def asked(host: Host, name: str, path: str = "/") -> Any:
        async with Calls(host, caller="test") as calls:
            return await calls.client(name).get_json(path)

    return asked


async def until(host: Host, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until `condition` holds of the statuses by name."""
    seen = host.status()
    with trio.fail_after(60):
        while not condition({status.name: status for status in seen}):
            seen = await host.changed(seen)
    return {status.name: status for status in seen}


@pytest.fixture(name="until")
def _until() -> Any:
    return until


@pytest.fixture(name="plain")
def _plain() -> Any:
    return plain


@pytest.fixture(name="plain_app")
def _plain_app() -> Any:
    return plain_app
