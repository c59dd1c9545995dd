"""A model server that sends every chunk by itself, each to all its streams in turn: what it offers comes in pieces, as a model's tokens do, and not in one packet.

    python tests/benchmarks/_paced.py      # prints its port

The path names the pace: `/v1/chat/completions` of the model `paced?count=100&interval=0.001` sends 100 chunks, one every millisecond, to each stream.
"""

from __future__ import annotations

import contextlib
import json
import socket
from functools import partial
from urllib.parse import parse_qsl

import trio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "paced", "choices": [choice]}
    return chunked(b"data: %b\n\n" % json.dumps(body).encode())


TOKEN = event({"content": " token"})
END = event({}, "stop") + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"


async def serve(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = b""
    # A client may leave in the middle, or between two requests.
    with contextlib.suppress(ConnectionError, trio.BrokenResourceError), stream.socket:
        while True:
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some()
                if not data:
                    return
                buffer += data
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            while len(buffer) < length:
                buffer += await stream.receive_some()
            body, buffer = buffer[:length], buffer[length:]
            if not body:  # the list of models
                models = b'{"data": [{"id": "paced"}]}'
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(models)
                await stream.send_all(head + models)
                continue
            options = dict(parse_qsl(json.loads(body)["model"].partition("?")[2]))
            await stream.send_all(HEAD)
            due = trio.current_time()
            for _ in range(int(options["count"])):
                due += float(options["interval"])
                if due > trio.current_time():
                    await trio.sleep_until(due)
                try:  # most of the time there is room, and the kernel's call is all that it costs
                    sent = stream.socket._sock.send(TOKEN)  # type: ignore[attr-defined]
                except BlockingIOError:
                    sent = 0
                if sent < len(TOKEN):
                    await stream.send_all(TOKEN[sent:])
            await stream.send_all(END)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        print(listeners[0].socket.getsockname()[1], flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(main)
