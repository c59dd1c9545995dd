"""What we use of hypercorn, h11, h2 and wsproto without their promise: this fails when a release moves it."""

from __future__ import annotations

import inspect
from typing import Any

import h11
import hypercorn.utils
import pytest
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.protocol.ws_stream import ASGIWebsocketState, Handshake, WSStream
from hypercorn.trio.worker_context import WorkerContext
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import PerMessageDeflate

PROTOCOL = ["app", "config", "context", "task_group", "connection_state", "ssl", "client", "server", "send"]
STREAM = ["app", "config", "context", "task_group", "ssl", "client", "server", "send", "stream_id"]


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (H11Protocol, PROTOCOL),
        (H2Protocol, PROTOCOL),
        (HTTPStream, STREAM),
        (WSStream, STREAM),
        (H11WSConnection, ["h11_connection"]),
        (H11Protocol.initiate, []),
        (H11Protocol.handle, ["event"]),
        (H11Protocol.stream_send, ["event"]),
        (H11Protocol._check_protocol, ["event"]),
        (H11Protocol._create_stream, ["request"]),
        (H11Protocol._send_h11_event, ["event"]),
        (H11Protocol._send_error_response, ["status_code"]),
        (H11Protocol._close_stream, []),
        (H11Protocol._maybe_recycle, []),
        (H2Protocol.initiate, ["headers", "settings"]),
        (H2Protocol.handle, ["event"]),
        (H2Protocol.stream_send, ["event"]),
        (H2Protocol._handle_events, ["events"]),
        (H2Protocol._create_stream, ["request"]),
        (H2Protocol._flush, []),
        (StreamBuffer, ["event_class"]),
        (StreamBuffer.set_complete, []),
        (StreamBuffer.push, ["data"]),
        (StreamBuffer.pop, ["max_length"]),
        (H2Protocol._send_data, ["stream_id"]),
        (H2Protocol._close_stream, ["stream_id"]),
        (HTTPStream.handle, ["event"]),
        (HTTPStream.app_send, ["message"]),
        (HTTPStream._send_closed, []),
        (WSStream.handle, ["event"]),
        (WSStream.app_send, ["message"]),
        (WSStream._accept, ["message"]),
        (WSStream._send_wsproto_event, ["event"]),
        (Handshake.accept, ["subprotocol", "additional_headers"]),
        (WorkerContext, ["max_requests"]),
        (hypercorn.utils.suppress_body, ["method", "status_code"]),
        (hypercorn.utils.filter_pseudo_headers, ["headers"]),
        (hypercorn.utils.parse_socket_addr, ["family", "address"]),
        (events.Request, ["stream_id", "headers", "http_version", "method", "raw_path", "state"]),
        (events.Response, ["stream_id", "headers", "status_code"]),
        (events.Body, ["stream_id", "data"]),
        (events.EndBody, ["stream_id"]),
        (events.StreamClosed, ["stream_id"]),
        (events.Data, ["stream_id", "data"]),
        (RawData, ["data", "address"]),
        (Closed, []),
        (Updated, ["idle"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_signatures_are_where_they_were(function: Any, expected: list[str]) -> None:
    assert parameters(function) == expected


def test_the_settings_are_where_they_were() -> None:
    for name in (
        "errorlog",
        "accesslog",
        "include_server_header",
        "h11_max_incomplete_size",
        "h2_max_header_list_size",
        "keep_alive_max_requests",
        "websocket_ping_interval",
    ):
        assert hasattr(Config, name), name
    assert Config.websocket_ping_interval is None


def test_the_states_are_where_they_were() -> None:
    assert {"REQUEST", "RESPONSE", "CLOSED"} <= set(ASGIHTTPState.__members__)
    assert {"HANDSHAKE", "CONNECTED", "CLOSED", "HTTPCLOSED"} <= set(ASGIWebsocketState.__members__)
    assert {"OPEN", "LOCAL_CLOSING", "REMOTE_CLOSING", "CLOSED"} <= set(ConnectionState.__members__)
    assert STREAM_ID == 1


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return _Anything()

    def __call__(self, *args: Any) -> Any:
        return _Anything()


def test_the_attributes_are_where_they_were() -> None:
    context = WorkerContext(None)
    stands_in: Any = _Anything()
    rest = (stands_in, {}, False, None, None, stands_in)
    one = H11Protocol(stands_in, Config(), context, *rest)
    assert isinstance(one.connection, h11.Connection)
    assert {"can_read", "stream", "keep_alive_requests", "connection_state"} <= vars(one).keys()
    two = H2Protocol(stands_in, Config(), context, *rest)
    assert {"streams", "stream_buffers", "priority", "has_data", "connection", "keep_alive_requests"} <= vars(
        two
    ).keys()
    buffer = StreamBuffer(context.event_class)
    assert {"buffer", "_complete", "_is_empty", "_paused"} <= vars(buffer).keys()
    http = HTTPStream(stands_in, Config(), context, stands_in, False, None, None, stands_in, 1)
    assert {"closed", "state", "stream_id"} <= vars(http).keys()
    websocket = WSStream(stands_in, Config(), context, stands_in, False, None, None, stands_in, 1)
    assert {"closed", "state", "stream_id", "app_put"} <= vars(websocket).keys()
    handshake = Handshake([], "1.1")
    assert {"accepted", "extensions"} <= vars(handshake).keys()


def test_compression_can_be_agreed_on_without_context_by_the_offer_alone() -> None:
    extension = PerMessageDeflate()
    agreed = extension.accept("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    assert "server_no_context_takeover" in str(agreed)
    assert "client_no_context_takeover" in str(agreed)


def test_wsproto_reports_wrong_frames_as_a_close_without_changing_its_state() -> None:
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(b"\x81\x01x")  # not masked
    (event,) = connection.events()
    assert event.code == 1002
    assert connection.state is ConnectionState.OPEN


def test_h11_keeps_what_follows_a_request() -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore")
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.next_event() is h11.PAUSED
    assert connection.trailing_data == (b"more", False)
