"""One message to all WebSockets again and again, in this process: `python _broadcast.py SERVER CLIENTS SIZE BEHIND`; see broadcast.py.

Servers: native (a prepared frame through `scope["uait.outlet"]`), native_asgi (a `websocket.send` to each), websockets (its `broadcast`, on uvloop).
"""

from __future__ import annotations

import sys
from typing import Any

from _serve import pinned, ready


def serve_native(clients: int, size: int, behind: int) -> None:
    import trio

    from uait.server import bind, broadcast, open_server, text_frame

    outlets: list[Any] = []
    frame = text_frame("x" * size)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        outlets.append(scope["uait.outlet"])
        if len(outlets) < clients:
            await trio.sleep_forever()
        while True:
            late = broadcast(outlets, frame)
            await trio.lowlevel.checkpoint()
            while any(outlet.queued > behind for outlet in late):
                await trio.sleep(0.001)

    async def main() -> None:
        sockets = bind("127.0.0.1", 0)
        async with open_server(app, sockets):
            ready(sockets[0].getsockname()[1])
            await trio.sleep_forever()

    trio.run(main)


def serve_native_asgi(clients: int, size: int, behind: int) -> None:
    import trio

    from uait.server import bind, open_server

    count = 0
    full = trio.Event()
    message = {"type": "websocket.send", "text": "x" * size}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        count += 1
        if count == clients:
            full.set()
        await full.wait()
        while True:
            await send(message)

    async def main() -> None:
        sockets = bind("127.0.0.1", 0)
        async with open_server(app, sockets):
            ready(sockets[0].getsockname()[1])
            await trio.sleep_forever()

    trio.run(main)


def serve_websockets(clients: int, size: int, behind: int) -> None:
    import asyncio

    import uvloop
    from websockets.asyncio.server import broadcast, serve

    message = "x" * size
    connections: set[Any] = set()

    async def handler(connection: Any) -> None:
        connections.add(connection)
        if len(connections) < clients:
            await connection.wait_closed()
        while True:
            broadcast(connections, message)
            await asyncio.sleep(0)
            while any(one.transport.get_write_buffer_size() > behind for one in connections):
                await asyncio.sleep(0.001)

    async def main() -> None:
        async with serve(handler, "127.0.0.1", 0, compression=None) as server:
            ready(next(iter(server.sockets)).getsockname()[1])
            await asyncio.Future()

    uvloop.run(main())


if __name__ == "__main__":
    pinned()
    globals()[f"serve_{sys.argv[1]}"](*map(int, sys.argv[2:]))
