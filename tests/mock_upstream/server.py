"""Sockets, HTTP/1.1 by hand, and counting. What is answered stands in `scenarios.py`."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs
import trio

from mock_upstream import lists, one_piece, scenarios, wired, wires

_GEMINI = re.compile(r"/v1beta/models/(?P<model>[^/:]+):(?P<method>\w+)")
_NATIVE = {"/v1/messages": "anthropic", "/v1/responses": "responses", "/api/chat": "ollama"}


KINDS = ("openai", "responses", "anthropic", "gemini", "ollama")
"""What this server can be asked as."""


@attrs.frozen
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Gone(Exception):
    """This side has closed the connection."""


@attrs.define
class Upstream:
    """The running server.

    Attributes:
        url: the base URL, ending in `/v1`.
        open_requests: requests that are being answered now.
        connections: sockets open now.
        left: answers whose client went away before their end.
        requests: what arrived, oldest first.
        sent: bytes, as far as the system has taken them.
        together: how many questions of a group the scenarios of races wait for.
        groups: how many each group has, and what is set once they are complete.
        models: what the lists of models answer: names, or "hang", "error", "page" (no JSON), "second" (the second page fails, where there are pages).
    """

    url: str = ""
    open_requests: int = 0
    connections: int = 0
    accepted: int = 0
    answered: int = 0
    left: int = 0
    sent: int = 0
    together: int = 2
    groups: dict[str, tuple[int, trio.Event]] = attrs.field(factory=dict)
    requests: deque[Seen] = attrs.field(factory=lambda: deque(maxlen=1000))
    models: list[str] | str = attrs.field(factory=lambda: ["tokens", "text-embedding-mock"])
    remember: bool = True
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def root(self) -> str:
        """The address without `/v1`, for the native dialects."""
        return self.url.removesuffix("/v1")

    def provider(self, kind: str, **more: Any) -> dict[str, Any]:
        """The settings of a provider of this kind that is this server; "responses" is OpenAI's other interface."""
        if kind in ("openai", "responses"):
            settings = {"base_url": self.url} | ({"api": "responses"} if kind == "responses" else {})
        else:
            settings = {"kind": kind, "base_url": self.root}
        return settings | more

    async def until(self, condition: Callable[[Upstream], bool], timeout: float = 10) -> None:
        """Wait until `condition` holds of the counters."""
        with trio.fail_after(timeout):
            while not condition(self):
                await self._changed.wait()

    async def gather(self, group: str) -> None:
        """Wait until `together` questions of a group are here."""
        count, complete = self.groups.get(group, (0, trio.Event()))
        self.groups[group] = (count + 1, complete)
        if count + 1 == self.together:
            complete.set()
            del self.groups[group]
        await complete.wait()

    def changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("open_requests", "connections", "accepted", "answered", "left")}


@asynccontextmanager
async def open_upstream(port: int = 0, *, remember: bool = True) -> AsyncIterator[Upstream]:
    """Serve on 127.0.0.1 until the block is left."""
    upstream = Upstream(remember=remember)

    async def serve(stream: trio.SocketStream) -> None:
        upstream.connections += 1
        upstream.accepted += 1
        try:
            await Connection(upstream, stream).run()
        except (Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.socket.close()
            upstream.connections -= 1
            upstream.changed()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, port, host="127.0.0.1"))
        upstream.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        yield upstream
        nursery.cancel_scope.cancel(reason="the mock upstream is no longer needed")


class Connection:
    """One socket: requests are read and answered in turn. To scenarios it is the way to answer."""

    def __init__(self, upstream: Upstream, stream: trio.SocketStream) -> None:
        self.upstream = upstream
        self.stream = stream
        self.close_on_next = False
        self.seen: Seen | None = None
        self._buffer = b""
        self._chunked = True

    async def run(self) -> None:
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (seen := await self._request()) is not None:
            upstream, self.seen = self.upstream, seen
            if upstream.remember:
                upstream.requests.append(seen)
            upstream.open_requests += 1
            upstream.changed()
            try:
                await self._answer(seen)
                upstream.answered += 1
            finally:
                upstream.open_requests -= 1
                upstream.changed()

    async def _request(self) -> Seen | None:
        if self._buffer and self.close_on_next:
            self.reset()
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = request_line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            length = int(headers.get("content-length", 0))
            while len(self._buffer) < length:
                if not await self._more():
                    return None
            body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Seen(method, path, headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                await self._more()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            length = int(size, 16)
            while len(self._buffer) < length + 2:
                await self._more()
            body, self._buffer = body + self._buffer[:length], self._buffer[length + 2 :]
            if not length:
                return body

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        if data and self.close_on_next:
            self.reset()
        self._buffer += data
        return bool(data)

    async def _answer(self, seen: Seen) -> None:
        path, _, query = seen.path.partition("?")
        gemini = _GEMINI.fullmatch(path)
        if seen.method == "GET" and path == "/mock":
            await self.json(200, self.upstream.counts())
        elif seen.method == "GET" and path in lists.LISTS:
            wanted = dict(parse_qsl(query))
            style = "anthropic" if path == "/v1/models" and "anthropic-version" in seen.headers else path
            await self._watched(lists.LISTS[style], {}, wanted)
        elif path == "/v1/messages/count_tokens":
            await self.json(200, {"input_tokens": 42})
        elif path.endswith("/embeddings"):
            await scenarios.embed(self, json.loads(seen.body), {})
        elif path == "/api/embed":
            await lists.embed_ollama(self, json.loads(seen.body), {})
        elif gemini is not None and gemini["method"] == "batchEmbedContents":
            await lists.embed_gemini(self, json.loads(seen.body), {})
        elif gemini is not None:
            await self._wired("gemini", unquote(gemini["model"]), seen, gemini["method"] == "streamGenerateContent")
        elif path in _NATIVE:
            body = json.loads(seen.body)
            await self._wired(_NATIVE[path], str(body.get("model", "")), seen, body.get("stream", path == "/api/chat"))
        elif path.endswith("/chat/completions"):
            await self._complete(seen)
        else:
            await self.json(404, {"error": {"message": f"no {path} here", "type": "invalid_request_error"}})

    async def _wired(self, style: str, model: str, seen: Seen, streaming: bool) -> None:
        """A scenario in a native dialect."""
        name, _, query = model.partition("?")
        found = wired.WIRED.get(name)
        wire = wires.WIRES[style]()
        if found is None:
            await self.json(404, wire.error_body(404, f"no model {name}"))
            return

        async def run(c: Connection, body: dict[str, Any], options: dict[str, str]) -> None:
            if streaming or name not in one_piece.ONE_PIECE:
                await found(c, wire, body, options, streaming)
            else:
                text = one_piece.TEXTS.get(name, scenarios.TEXT)
                await one_piece.ONE_PIECE[name](c, json.dumps(wire.whole(text), ensure_ascii=False).encode())

        await self._watched(run, json.loads(seen.body), dict(parse_qsl(query)))

    async def _complete(self, seen: Seen) -> None:
        body = json.loads(seen.body)
        name, _, query = str(body.get("model", "")).partition("?")
        options = dict(parse_qsl(query))
        scenario = scenarios.SCENARIOS.get(name)
        if scenario is None:
            await self.json(404, {"error": {"message": f"no model {name}", "code": "model_not_found"}})
        elif name == "tokens" and not options.get("delay"):
            # Nothing to be interrupted in, and benchmarks measure somebody else.
            await scenario(self, body, options)
        elif not body.get("stream") and name in one_piece.ONE_PIECE:
            text = one_piece.TEXTS.get(name, scenarios.TEXT)
            data = json.dumps(scenarios.completion({"content": text}), ensure_ascii=False).encode()

            async def run(c: Connection, body: dict[str, Any], options: dict[str, str]) -> None:
                await one_piece.ONE_PIECE[name](c, data)

            await self._watched(run, body, options)
        else:
            await self._watched(scenario, body, options)

    async def _watched(self, scenario: scenarios.Scenario, body: dict[str, Any], options: dict[str, str]) -> None:
        """Run a scenario, and cancel it as soon as the client has gone."""
        gone = complete = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal gone
                try:
                    while data := await self.stream.receive_some(65536):
                        self._buffer += data
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                gone = not complete
                nursery.cancel_scope.cancel(reason="the client has gone")

            nursery.start_soon(watch)
            try:
                await scenario(self, body, options)
                complete = True
            except (Gone, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                closed_here = isinstance(error, Gone)
                gone = not closed_here
                nursery.cancel_scope.cancel(reason="the connection is closed")
                if closed_here:
                    self.stream.socket.close()
            nursery.cancel_scope.cancel(reason="the answer is complete")
        if gone:
            self.upstream.left += 1
            raise trio.BrokenResourceError

    # What scenarios ask and answer with.

    def key(self) -> str:
        """The API key of the question, wherever its dialect puts it."""
        headers = self.seen.headers if self.seen is not None else {}
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        return headers.get("x-api-key") or headers.get("x-goog-api-key") or bearer

    async def json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """A whole JSON answer."""
        await self.whole(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})

    async def whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """A whole answer."""
        await self.send(render_head(status, {**headers, "content-length": str(len(body))}) + body)

    async def start(self, headers: dict[str, str] | None = None, *, chunked: bool = True) -> None:
        """The head of a stream."""
        self._chunked = chunked
        framing = {"transfer-encoding": "chunked"} if chunked else {"connection": "close"}
        await self.send(render_head(200, {"content-type": "text/event-stream", **framing, **(headers or {})}))

    async def data(self, data: bytes) -> None:
        """A piece of a stream, as one chunk and with luck one segment. No piece is no chunk, which would end the stream."""
        if not data:
            return
        await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """The orderly end of a stream."""
        if self._chunked:
            await self.send(b"0\r\n\r\n")
        else:
            self.cut()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)
        self.upstream.sent += len(data)

    def cut(self) -> None:
        """Close the connection."""
        raise Gone

    def reset(self) -> None:
        """Close it with RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone


def render_head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Mock\r\n{lines}\r\n".encode("latin-1")
