"""The pytest plugin for authors of services. pytest loads it wherever uait is installed, so it imports nothing before a fixture is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    from uait.kernel.service import ServiceSpec
    from uait.testing.running import Fake, Runner


@pytest.fixture
def run_service(tmp_path: Path) -> Runner[httpx.AsyncClient]:
    """Run a service in this process and talk to it without a socket.

        async def test_counts(run_service):
            async with run_service(wordcount, settings={"longest": 100}, memory=fake_memory) as client:
                answer = await client.post("/count", json={"text": "one two"})
                assert answer.json() == {"words": 2}

    `settings` is the service's own section, as a settings file would have it. Every further keyword is a service that stands in for another one: a
    `@service`, or any ASGI app. `client` is an `httpx.AsyncClient`: statuses do not raise, and what a handler raises is a 500, as for any client, with
    its traceback in the log; only an answer that breaks off or never begins raises. Two runs in one test share the data directory, so that what must
    survive a restart can be tested. Works under `trio` only (pytest-trio).
    """

    def run(
        spec: ServiceSpec, *, settings: Any = None, **fakes: Fake
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        from uait.testing.running import open_client

        return open_client(spec, data_dir=tmp_path / "uait", settings=settings, fakes=fakes)

    return run


@pytest.fixture
def run_service_live(tmp_path: Path) -> Runner[str]:
    """Like `run_service`, for a client of your own: gives the base URL (`http://127.0.0.1:43231`) on which the service really listens."""

    def run(spec: ServiceSpec, *, settings: Any = None, **fakes: Fake) -> AbstractAsyncContextManager[str]:
        from uait.testing.running import open_live

        return open_live(spec, data_dir=tmp_path / "uait", settings=settings, fakes=fakes)

    return run
