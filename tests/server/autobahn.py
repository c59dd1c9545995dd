"""Autobahn's fuzzing client against our servers: some 300 cases on RFC 6455 (and 216 on compression), of which none may fail.

    python tests/server/autobahn.py WSTEST [--kind native] [--app asgi quart] [--cases '*'] [--exclude '12.*' '13.*']

WSTEST is the program that autobahntestsuite installs; it runs under Python 2.7 only. Prints the counts and what failed; ends with 1 where something did.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from quart import websocket
from quart_trio import QuartTrio
from serving import KINDS

from uait.server import ServerLimits, bind, open_server

BAD = {"FAILED", "WRONG CODE", "UNCLEAN", "UNIMPLEMENTED"}
"""What a case's behaviour, or its closing behaviour, must not be. NON-STRICT and INFORMATIONAL are allowed by the RFC, and counted."""

MINUTES = 60
"""That one run may take."""


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Echoes, in the fewest words."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({**message, "type": "websocket.send"})


def quart() -> QuartTrio:
    app = QuartTrio("echo")
    app.logger.setLevel(logging.CRITICAL)  # quart-trio 0.13 logs each client that leaves as an error

    @app.websocket("/")
    async def echo() -> None:
        while True:
            data = await websocket.receive()
            # quart-trio hands an empty binary message over as None.
            await websocket.send(b"" if data is None else data)

    return app


async def run(wstest: str, kind: str, name: str, cases: list[str], exclude: list[str]) -> bool:
    """One run against one server. Returns whether nothing failed."""
    app: Any = asgi if name == "asgi" else quart()
    sockets = bind("127.0.0.1", 0)
    # The cases go up to 16 MB in one message, and take their time.
    limits = ServerLimits(message_bytes=20_000_000, send_timeout=60.0)
    with tempfile.TemporaryDirectory() as directory, trio.move_on_after(MINUTES * 60) as patience:
        async with open_server(app, sockets, limits=limits, speak=KINDS[kind]) as server:
            spec = {
                "outdir": directory,
                "servers": [{"agent": name, "url": server.addresses[0].replace("http", "ws", 1)}],
                "cases": cases,
                "exclude-cases": exclude,
                "exclude-agent-cases": {},
            }
            file = Path(directory) / "spec.json"
            file.write_text(json.dumps(spec))
            command = [wstest, "-m", "fuzzingclient", "-s", str(file)]
            await trio.run_process(command, stdout=subprocess.DEVNULL)
            report = json.loads((Path(directory) / "index.json").read_text())[name]
            failed = server.statistics().failed
    if patience.cancelled_caught:
        print(f"{kind} {name}: not done after {MINUTES} minutes")
        return False
    return judge(f"{kind} {name}", report, failed)


def judge(title: str, report: dict[str, dict[str, str]], failed: int) -> bool:
    """Print what came out, and say whether it is good."""
    counts = Counter(case["behavior"] for case in report.values())
    closing = Counter(case["behaviorClose"] for case in report.values())
    print(f"{title}: {len(report)} cases: {_listed(counts)}; closing: {_listed(closing)}", flush=True)
    bad = {number for number, case in report.items() if BAD & {case["behavior"], case["behaviorClose"]}}
    for number in sorted(bad, key=lambda number: [int(part) for part in number.split(".")]):
        print(f"  {number}: {report[number]['behavior']}, closing {report[number]['behaviorClose']}")
    if failed:
        print(f"  {failed} connections ended with an error of ours")
    return bool(report) and not bad and not failed


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wstest")
    parser.add_argument("--kind", nargs="+", default=["native"], choices=["native", "hypercorn"])
    parser.add_argument("--app", nargs="+", default=["asgi", "quart"], choices=["asgi", "quart"])
    parser.add_argument("--cases", nargs="+", default=["*"])
    parser.add_argument("--exclude", nargs="*", default=["12.*", "13.*"], help="by default the cases on compression, 216 of them, which take long; nothing behind it means none")  # fmt: skip
    arguments = parser.parse_args()
    good = [
        trio.run(run, arguments.wstest, kind, name, arguments.cases, arguments.exclude)
        for kind in arguments.kind
        for name in arguments.app
    ]
    sys.exit(not (good and all(good)))


if __name__ == "__main__":
    main()
