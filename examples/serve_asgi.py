"""uait's server alone, for an ASGI app of your own: no services, no settings, no signal handlers. Whatever a client sends over WebSocket, every client gets.

python examples/serve_asgi.py [PORT]
"""

from __future__ import annotations

import sys
from typing import Any

import trio

from uait.server import Outlet, bind, broadcast, open_server, text_frame

outlets: set[Outlet] = set()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await chat(scope["uait.outlet"], receive, send)
    elif scope["type"] == "http":
        body = f"{len(outlets)} WebSockets are open.\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def chat(outlet: Outlet, receive: Any, send: Any) -> None:
    await receive()  # that a client wants to connect
    await send({"type": "websocket.accept"})
    outlets.add(outlet)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            for slow in broadcast(outlets, text_frame(message["text"] or "")):  # encoded once, pushed to all
                print(f"a client is {slow.queued} bytes behind")
    finally:
        outlets.discard(outlet)


async def main(port: int) -> None:
    sockets = bind("localhost", port)  # yours: a next server could go on with them
    try:
        async with open_server(app, sockets) as server:
            print("serving at", " and ".join(server.addresses), flush=True)
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await server.drain(grace=1)  # never longer than that and two seconds, whatever clients do
    finally:
        for sock in sockets:
            sock.close()


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    except* KeyboardInterrupt:
        print("stopped")
