"""A crash stays in its room: of the real process, with every way in which a service can crash."""

from __future__ import annotations

from typing import Any

import pytest
import trio

pytestmark = pytest.mark.system

PLUGINS = """
import os
import trio
from uait import RestartPolicy, service

quick = RestartPolicy(base=0.05, cap=0.2, intensity=2)

@service(restart=quick)
async def in_factory(ctx):
    raise RuntimeError("in the factory")

@service(restart=quick)
async def by_returning(ctx):
    return None

@service(restart=quick)
async def in_background(ctx):
    async def crash():
        await trio.sleep(0.1)
        raise RuntimeError("in the background")
    ctx.nursery.start_soon(crash)
    return ctx.app()

@service
async def in_request(ctx):
    app = ctx.app()
    @app.get("/crash")
    async def crash():
        raise RuntimeError("in a request, with a secret")
    return app

@service(restart=RestartPolicy(base=1.0, cap=1.0, intensity=5))
async def phoenix(ctx):
    app = ctx.app()
    burn = trio.Event()
    async def fire():
        await burn.wait()
        raise RuntimeError("burnt")
    ctx.nursery.start_soon(fire)
    @app.post("/burn")
    async def light():
        burn.set()
        return {"burning": True}
    @app.get("/alive")
    async def alive():
        return {"started": ctx.started}
    return app
"""
NAMES = ("in-factory", "by-returning", "in-background", "in-request", "phoenix")


async def test_crashes_harm_no_other(start: Any, write_plugin: Any, http: Any) -> None:
    cwd = write_plugin("crashing", PLUGINS)
    arguments = [part for name in NAMES for part in ("--service", f"crashing:{name.replace('-', '_')}")]
    async with start(*arguments, further=NAMES, cwd=cwd) as process, http() as client:
        await trio.sleep(1.5)
        health = (await client.get(process.url("gateway", "/health"))).json()["services"]
        for name in ("in-factory", "by-returning", "in-background"):
            assert health[name]["status"] != "healthy", health
        for name in ("chat-service", "memory-service", "websocket-hub", "service-discovery", "orchestration-service"):
            assert health[name]["status"] == "healthy", health

        down = await client.get(process.url("gateway", "/api/v1/in-factory/anything"))
        assert down.status_code == 503
        assert "Retry-After" in down.headers
        assert down.json()["error"]["code"] == "UNAVAILABLE"

        crashed = await client.get(process.url("in-request", "/crash"))
        assert crashed.status_code == 500
        assert crashed.json()["error"]["code"] == "INTERNAL_ERROR"
        assert "secret" not in crashed.text
        assert crashed.json()["error"]["request_id"] in process.output()
        assert (await client.get(process.url("in-request", "/health"))).status_code == 200


async def test_a_restart_keeps_the_port_and_waiting_clients_are_answered(
    start: Any, write_plugin: Any, http: Any
) -> None:
    cwd = write_plugin("crashing", PLUGINS)
    async with start("--service", "crashing:phoenix", further=("phoenix",), cwd=cwd) as process, http() as client:
        before = (await client.get(process.url("phoenix", "/alive"))).json()["started"]
        assert (await client.post(process.url("phoenix", "/burn"))).status_code in (200, 503)
        await trio.sleep(0.1)

        # Nobody serves now: a new connection waits in the backlog, an in-process call for the service itself.
        async with http() as fresh:
            direct = (await fresh.get(process.url("phoenix", "/alive"))).json()["started"]
            assert direct > before
        assert (await client.get(process.url("gateway", "/api/v1/phoenix/alive"))).json()["started"] == direct
        assert "burnt" in process.output()


async def test_a_plugin_that_cannot_be_imported_is_refused_where_it_was_asked_for(
    start: Any, write_plugin: Any
) -> None:
    cwd = write_plugin("unimportable", "raise RuntimeError('boom')")
    async with start("--service", "unimportable:x", wait=(), cwd=cwd) as process:
        assert await process.wait(20) == 2
        assert "cannot be imported: RuntimeError: boom" in process.output()
