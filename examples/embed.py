"""uait inside a trio program of your own: one task among others, on free ports, stopped by cancelling it.

python examples/embed.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx
import trio

import uait


async def tick() -> None:
    """Your own work goes on beside uait."""
    while True:
        print("tick")
        await trio.sleep(0.2)


async def chat(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.post("/chat", json={"message": "Hello"})
        print("chat says:", answer.raise_for_status().json()["response"])


async def main(data_dir: Path) -> None:
    settings = uait.Settings(
        data_dir=data_dir,
        only=("chat", "memory"),
        sections={"chat": {"port": 0}, "memory": {"port": 0}},  # 0 takes any free port
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        host = await nursery.start(uait.serve, settings)  # ready when this returns
        for status in host.status():
            print(f"{status.name} is {status.state} at {' and '.join(status.addresses)}")
        await chat(host.addresses("chat")[0])
        nursery.cancel_scope.cancel(reason="the example is over")  # drains and stops uait, too
    print("stopped")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trio.run(main, Path(folder))
