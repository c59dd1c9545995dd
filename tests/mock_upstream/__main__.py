"""`python tests/mock_upstream --port 9100`: the mock model server as a process of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from mock_upstream.server import open_upstream


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    async with open_upstream(arguments.port, remember=False) as upstream:
        print(upstream.url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    try:
        trio.run(main)
    except KeyboardInterrupt:
        sys.exit(0)
