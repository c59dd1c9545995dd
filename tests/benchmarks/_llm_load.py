"""Clients of a model server, in a process of their own on the other core, that ask again and again; the request is read from the input.

    python _llm_load.py PORT CLIENTS SECONDS < request      # prints a `Result` as JSON

One loop over epoll for all, so that the clients are no bottleneck; how busy it was is in the result. When the time is over, answers are left where they are.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time

import attrs
from _load import connect, pinned

EVENT = b"data:"
TOKEN = b'"content"'


@attrs.frozen
class Result:
    """Of one measurement; times are medians in milliseconds, of answers and first tokens that came."""

    answers: int
    events: int
    seconds: float
    answer: float
    first: float
    busy: float


def load(port: int, clients: int, seconds: float, request: bytes) -> Result:
    """Let `clients` ask for so long.

    Raises:
        RuntimeError: an answer was none; it says which.
    """
    command = [sys.executable, __file__, str(port), str(clients), str(seconds)]
    run = subprocess.run(command, input=request, capture_output=True, preexec_fn=pinned, timeout=seconds + 60)
    if run.returncode:
        raise RuntimeError(run.stderr.decode().strip().rpartition("\n")[2])
    return Result(**json.loads(run.stdout))


class Answer:
    """What has come of one answer."""

    __slots__ = ("asked", "head", "left", "tail", "token")

    def __init__(self) -> None:
        self.asked = time.perf_counter()
        self.head: bytes | None = b""
        self.left: int | None = None  # None: chunked, and its last chunk is its end
        self.tail = b""
        self.token = False

    def feed(self, data: bytes) -> tuple[int, bool]:
        """Take what has come. Returns how many events began in it, and whether the answer is complete."""
        if self.head is not None:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return 0, False
            self.head = None
            if b" 200 " not in head[:16]:
                raise RuntimeError(f"answered {head.partition(b' ')[2][:40]!r}: {data[:300]!r}")
            if b"chunked" not in head.lower():
                self.left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        joined = self.tail + data
        if self.left is not None:
            self.left -= len(data)
            return 0, self.left <= 0
        self.token = self.token or TOKEN in joined
        events = joined.count(EVENT) - self.tail.count(EVENT)
        self.tail = joined[-16:]
        return events, joined.endswith(b"0\r\n\r\n")


def run(port: int, clients: int, seconds: float, request: bytes) -> Result:
    poll = selectors.DefaultSelector()
    for _ in range(clients):
        client = connect(port)
        poll.register(client, selectors.EVENT_READ, Answer())
        client.sendall(request)
    took: list[float] = []
    firsts: list[float] = []
    events = 0
    began, worked = time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in poll.select(began + seconds - now):
            sock, answer = key.fileobj, key.data
            assert isinstance(sock, socket.socket)
            data = sock.recv(262_144)
            if not data:
                raise RuntimeError("the connection was closed in the middle of an answer")
            waited_for = not answer.token
            found, complete = answer.feed(data)
            events += found
            if waited_for and answer.token:
                firsts.append(time.perf_counter() - answer.asked)
            if complete:
                took.append(time.perf_counter() - answer.asked)
                poll.modify(sock, selectors.EVENT_READ, Answer())
                sock.sendall(request)
    spent = time.perf_counter() - began
    return Result(
        answers=len(took),
        events=events,
        seconds=spent,
        answer=statistics.median(took or [0.0]) * 1e3,
        first=statistics.median(firsts or [0.0]) * 1e3,
        busy=(time.process_time() - worked) / spent,
    )


if __name__ == "__main__":
    result = run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read())
    print(json.dumps(attrs.asdict(result)))
