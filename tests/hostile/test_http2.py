"""HTTP/2 over TLS against what no honest client would send: it costs the sender its connection at most."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme
from echo import Echo
from hostile.corpus import Case, http2_corpus, play
from serving import KINDS, Running, back_at, resources, serving
from wire import Wire

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def dial_tls(running: Running, authority: trustme.CA, protocol: str) -> AsyncIterator[Wire]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols([protocol])
    stream = await trio.open_tcp_stream("127.0.0.1", running.port)
    secure = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    try:
        await secure.do_handshake()
        yield Wire(secure)
    finally:
        await trio.aclose_forcefully(secure)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in http2_corpus()])
async def test_it_costs_nobody_else_anything(
    case: Case, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="uait.server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    app = Echo()
    limits = {"header_timeout": 1.0, "idle_timeout": 1.0, "send_timeout": 1.0, "accept_timeout": 1.0}

    async def still_answers() -> None:
        async with dial_tls(running, authority, "http/1.1") as wire:
            assert (await wire.ask()).body == b"hello"

    async with serving(app, lambda: caplog.messages, speak=KINDS["hypercorn"], tls=tls, **limits) as running:
        await still_answers()
        await running.settled()
        before = resources()
        async with dial_tls(running, authority, "h2") as wire:
            await play(case, wire)
            await still_answers()
        await back_at(before)
        assert app.inside == []
        assert not [message for message in running.messages if "crashed" in message]
