"""A server that may open few files, for the tests of floods: it says its port, and then every second line of its log."""

from __future__ import annotations

import logging
import resource
import sys

import trio
from echo import Echo
from serving import KINDS

from uait.server import ServerLimits, bind, open_server


async def main(kind: str, files: int) -> None:
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO, stream=sys.stdout)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    limits = ServerLimits(header_timeout=0.5, idle_timeout=1.0)
    sockets = bind("127.0.0.1", 0)
    async with open_server(Echo(), sockets, limits=limits, speak=KINDS[kind]):
        print(sockets[0].getsockname()[1], flush=True)
        await trio.sleep(60)  # it ends by itself, should the test not end it


trio.run(main, sys.argv[1], int(sys.argv[2]))
