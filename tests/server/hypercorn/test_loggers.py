"""hypercorn's loggers are global to the process, and not ours."""

from __future__ import annotations

import logging

from echo import Echo
from serving import Serve


async def test_hypercorns_own_loggers_are_left_alone(serve: Serve, echo: Echo) -> None:
    for name in ("hypercorn.error", "hypercorn.access"):
        assert not logging.getLogger(name).handlers
    async with serve(echo) as running, running.dial() as wire:
        await wire.ask("/crash")
        await wire.open_websocket()
    for name in ("hypercorn.error", "hypercorn.access"):
        assert not logging.getLogger(name).handlers
