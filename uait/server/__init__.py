"""Serves any ASGI app on trio: owned sockets, bounded in every direction, gone when told to. It knows neither services nor AI, and is usable on its own.

    async def hello(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def main():
        sockets = bind("localhost", 8000)
        async with open_server(hello, sockets) as server:
            print(*server.addresses)
            await trio.sleep(3600)
            await server.drain(grace=10)
        for sock in sockets:
            sock.close()

Sockets are the caller's from first to last, so that a next server can go on with them.
"""

from uait.server.asgi import ASGIApp as ASGIApp
from uait.server.asgi import Message as Message
from uait.server.asgi import Receive as Receive
from uait.server.asgi import Scope as Scope
from uait.server.asgi import Send as Send
from uait.server.connection import ServeConnection as ServeConnection
from uait.server.connection import Site as Site
from uait.server.connection import Speak as Speak
from uait.server.disconnect import Disconnect as Disconnect
from uait.server.drain import Drain as Drain
from uait.server.drain import Phase as Phase
from uait.server.frames import Outlet as Outlet
from uait.server.frames import binary_frame as binary_frame
from uait.server.frames import broadcast as broadcast
from uait.server.frames import text_frame as text_frame
from uait.server.http1 import NativeConnections as NativeConnections
from uait.server.limits import ServerLimits as ServerLimits
from uait.server.limits import ServerStatistics as ServerStatistics
from uait.server.listener import Server as Server
from uait.server.listener import open_server as open_server
from uait.server.sockets import bind as bind

__all__ = [
    "ASGIApp",
    "Disconnect",
    "Drain",
    "Message",
    "NativeConnections",
    "Outlet",
    "Phase",
    "Receive",
    "Scope",
    "Send",
    "ServeConnection",
    "Server",
    "ServerLimits",
    "ServerStatistics",
    "Site",
    "Speak",
    "binary_frame",
    "bind",
    "broadcast",
    "open_server",
    "text_frame",
]
