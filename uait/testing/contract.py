"""The promises that hold for every service, checked against one of them for real: own sockets, a client that misbehaves, a second start."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from uait.kernel.restart import RestartPolicy
from uait.kernel.service import ServiceSpec
from uait.testing.running import GRACE, Fake, open_live

START = 5.0
"""Seconds within which a service must be ready."""


async def assert_service_contract(
    spec: ServiceSpec, *, settings: Mapping[str, Any] | None = None, fakes: Mapping[str, Fake] = {}
) -> None:
    """Check that a service keeps what every service promises.

    It starts within 5 s; answers `/health`, and 404 in the common form; survives clients that break off; stops within its grace period and 2 s while a
    client keeps a connection open; and starts again on the data that it left.

    Args:
        spec: the service.
        settings: its own section.
        fakes: stand-ins for services that it calls, by name.

    Raises:
        AssertionError: saying which promise is broken.
        ServiceFailed: it does not start at all.
    """
    # One crash is the end of it here, so that nothing hides behind a restart.
    strict = attrs.evolve(spec, start_timeout=min(spec.start_timeout, START), restart=RestartPolicy(intensity=0))
    with tempfile.TemporaryDirectory(prefix="uait-") as folder:
        for _ in ("on no data", "on the data it left"):
            async with AsyncExitStack() as stack:
                async with open_live(strict, data_dir=Path(folder), settings=settings, fakes=fakes) as url:
                    await _check_answers(spec, url)
                    await _break_off(url)
                    await _check_answers(spec, url)
                    stack.push_async_callback((await _connect(url)).aclose)
                    began = trio.current_time()
                took = trio.current_time() - began
            assert took < GRACE + 2, f"{spec.name} took {took:.1f} s to stop, with {GRACE:g} s of grace"


async def _check_answers(spec: ServiceSpec, url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:  # a proxy would know nothing of it
        try:
            health = await client.get("/health")
            missing = await client.get("/there/is/nothing/here")
        except httpx.TransportError as error:
            raise AssertionError(f"{spec.name} does not answer: {error!r}") from error
        assert health.status_code == 200, f"/health answers {health.status_code}: {health.text}"
        assert _object(health).get("service") == spec.title, (
            f"/health does not say which service this is: {health.text}"
        )
        assert missing.status_code == 404, f"an unknown path answers {missing.status_code}"
        told = _object(missing).get("error")
        common = isinstance(told, dict) and {"code", "message", "request_id"} <= told.keys()
        assert common, f"404 is not in the common form: {missing.text}"


def _object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that was answered; empty where it was something else."""
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_BEGUN = 0.1
"""Seconds until the service has begun: a server need not begin anything for somebody who has gone already."""


async def _break_off(url: str) -> None:
    """Leave in the middle of a request head, of a body, and before the answer."""
    for part in (
        b"GET /hea",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with suppress(OSError, trio.BrokenResourceError):  # whether it still answers is looked at next
            stream = await _connect(url)
            async with stream:
                await stream.send_all(part)
                await trio.sleep(_BEGUN)


async def _connect(url: str) -> trio.SocketStream:
    parsed = httpx.URL(url)
    return await trio.open_tcp_stream(parsed.host, parsed.port or 80)
