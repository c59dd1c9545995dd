"""A model server is asked over TLS by a process that has no TLS until somebody is (`uait.cli.lean`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
import trustme
from mock_upstream import open_upstream

pytestmark = [pytest.mark.system, pytest.mark.shared]

QUESTION = {"model": "openai/tokens", "messages": [{"role": "user", "content": "Hello"}]}


@asynccontextmanager
async def secured(url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    """The server at `url`, with TLS in front of it. Gives its address."""

    async def serve(outside: trio.SSLStream[trio.SocketStream]) -> None:
        inside = await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0)
        async with outside, inside, trio.open_nursery() as nursery:

            async def hand_on(source: Any, target: Any) -> None:
                try:
                    async for data in source:
                        await target.send_all(data)
                except trio.BrokenResourceError:
                    pass  # who does not trust us says so and is gone
                nursery.cancel_scope.cancel(reason="one side has ended")

            nursery.start_soon(hand_on, outside, inside)
            nursery.start_soon(hand_on, inside, outside)

    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_ssl_over_tcp, serve, 0, context, host="127.0.0.1")
        listeners = await nursery.start(serving)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        yield f"https://localhost:{port}{urlsplit(url).path}"
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_model_server_is_asked_over_tls(trusted: bool, start: Any, http: Any, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    async with open_upstream() as upstream, secured(upstream.url, context) as url:
        env = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": url, "SSL_CERT_FILE": str(tmp_path / "trusted.pem")}
        arguments = ("--only", "gateway,chat")
        async with start(*arguments, env=env, wait=("gateway", "chat")) as process, http() as client:
            for stream in (False, True):
                answer: httpx.Response = await client.post(
                    process.url("gateway", "/v1/chat/completions"), json={**QUESTION, "stream": stream}
                )
                if trusted:
                    assert answer.status_code == 200, answer.text
                    assert "tok4" in answer.text
                else:
                    assert answer.status_code == 503, answer.text
                    assert "certificate is not trusted: unable to get" in answer.json()["error"]["message"]
            assert (await client.get(process.url("gateway", "/health"))).status_code == 200
        assert bool(upstream.requests) is trusted
