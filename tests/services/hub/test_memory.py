"""What a client of the hub held is free when it has left, without waiting for the garbage collector."""

from __future__ import annotations

import httpx
import pytest
import trio

from uait.services.hub.service import hub


async def visit(url, client, *, silent):
    """Connect, be welcomed, maybe subscribe, and be gone."""
    port = int(url.rpartition(":")[2])
    payload = b'{"type": "subscribe", "id": "s", "room": "tea", "presence": "diffs"}'
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        heard = b""
        while b"Welcome" not in heard:
            heard += await stream.receive_some()
        if not silent:
            await stream.send_all(b"\x81" + bytes((0x80 | len(payload),)) + b"\0\0\0\0" + payload)
        while not silent and b"subscribed" not in heard:
            heard += await stream.receive_some()
    while (await client.get(f"{url}/stats")).json()["clients"]:
        await trio.sleep(0.02)
    await trio.sleep(0.1)


@pytest.mark.parametrize("silent", [False, True])
async def test_no_ring_of_objects_is_left(run_service_live, rings, silent):
    """Which would stay for ever: what there is of many clients is frozen."""
    with trio.fail_after(60):
        async with run_service_live(hub) as url, httpx.AsyncClient() as client:
            await visit(url, client, silent=silent)
            rings()
            await visit(url, client, silent=silent)
            left = rings("uait", "wsproto")
    assert left == set()
