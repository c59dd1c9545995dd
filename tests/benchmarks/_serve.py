"""One server with one app in this process, for the other files here: `python _serve.py SERVER APP`. It prints its port when it serves, and ends when its input does.

Servers: uvicorn (uvloop and httptools), hypercorn (its own trio worker), native and ours_hypercorn (`open_server` with the one or the other kind of connections), uait (the host, with one service).
Apps: bare (ASGI), starlette, quart (quart-trio where the server runs trio), uait (`ctx.app()`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

SERVER_CORE = 0

ANSWER = json.dumps({"message": "hello", "numbers": [1, 2, 3]}, separators=(",", ":")).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def bare(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})
    elif scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})


def make_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def hello(request: Any) -> JSONResponse:
        return JSONResponse(json.loads(ANSWER))

    return Starlette(routes=[Route("/json", hello)])


def make_quart() -> Any:
    from quart_trio import QuartTrio

    app = QuartTrio("bench")

    @app.get("/json")
    async def hello() -> dict[str, Any]:
        return {"message": "hello", "numbers": [1, 2, 3]}

    return app


def make_app(name: str) -> Any:
    return {"bare": lambda: bare, "starlette": make_starlette, "quart": make_quart}[name]()


def serve_uvicorn(app: Any) -> None:
    import uvicorn

    sock = bound()
    config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="error", access_log=False, lifespan="off")
    ready(sock.getsockname()[1])
    uvicorn.Server(config).run(sockets=[sock])


def serve_hypercorn(app: Any) -> None:
    import hypercorn.trio
    import trio

    async def main() -> None:
        config = hypercorn.Config()
        config.bind = ["127.0.0.1:0"]
        config.errorlog = None
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(hypercorn.trio.serve, app, config)
            ready(int(address.rpartition(":")[2]))

    trio.run(main)


def serve_ours(app: Any, kind: str) -> None:
    import trio

    from uait.server import NativeConnections, bind, open_server
    from uait.server.hypercorn import HypercornConnections

    async def main() -> None:
        sockets = bind("127.0.0.1", 0)
        speak = NativeConnections if kind == "native" else HypercornConnections
        async with open_server(app, sockets, speak=speak):
            ready(sockets[0].getsockname()[1])
            await trio.sleep_forever()

    trio.run(main)


def serve_uait() -> None:
    import trio

    from uait import Context, service
    from uait.testing.running import open_service

    @service(port=0, summary="Answers for a benchmark")
    async def bench(ctx: Context) -> Any:
        app = ctx.app()

        @app.get("/json")
        async def hello() -> dict[str, Any]:
            return {"message": "hello", "numbers": [1, 2, 3]}

        return app

    async def main(directory: str) -> None:
        async with open_service(bench, data_dir=Path(directory)) as host:
            ready(int(host.addresses("bench")[0].rpartition(":")[2]))
            await trio.sleep_forever()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, directory)


def bound() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def ready(port: int) -> None:
    print(port, flush=True)


def pinned() -> None:
    """Run on the servers' core from now on. Not every system can, and a machine may have one core only."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {SERVER_CORE})


def main(server: str, app: str) -> None:
    pinned()
    logging.disable(logging.INFO)
    if server == "uvicorn":
        serve_uvicorn(make_app(app))
    elif server == "hypercorn":
        serve_hypercorn(make_app(app))
    elif app == "uait":
        serve_uait()
    else:
        serve_ours(make_app(app), server)


if __name__ == "__main__":
    main(*sys.argv[1:])
