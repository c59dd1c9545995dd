"""What a request's head must be like before an app sees it. Pure, and the same for every connection class.

The rules are those of RFC 9112 (HTTP/1.1) where they guard against request smuggling and confusion about the host; parsing itself is the protocol library's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeAlias

import attrs

from uait.errors import APIError, BadRequest, MethodNotAllowed
from uait.server.limits import ServerLimits
from uait.server.refusal import error_for

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

# Registered name, IPv4 or bracketed IPv6, with an optional port (RFC 3986 section 3.2). No user information: RFC 9110 section 4.2.4 has it treated as an attack.
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_ORIGIN = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # anything visible but the fragment, which is never sent

_HANDSHAKE_FIELDS = {b"connection", b"sec-websocket-protocol", b"sec-websocket-extensions"}
_LOOKED_INTO = frozenset({b"transfer-encoding", b"upgrade"})
_known_hosts: set[bytes] = set()  # mostly there is one, in every request
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@attrs.define
class Head:
    """A request's head that an app may see."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    websocket: bool


def check_head(method: bytes, target: bytes, version: bytes, headers: Headers, limits: ServerLimits) -> Head:
    """Check an HTTP/1 request's head.

    Args:
        headers: with lower-case names, framing fields already valid each by itself.

    Returns:
        The head, with an absolute-form target reduced to its path and query, and its authority as the Host (RFC 9112 section 3.2.2).

    Raises:
        APIError: what to answer instead. The connection must end then: what follows the head cannot be trusted.
    """
    fields = dict(headers)
    if (
        len(fields) == len(headers) <= limits.header_count
        and version == b"1.1"
        and fields.get(b"host") in _known_hosts
        and fields.keys().isdisjoint(_LOOKED_INTO)
        and _ORIGIN.fullmatch(target)
        and method != b"CONNECT"
        and len(target) + 4 * len(headers) + len(b"".join(chain.from_iterable(headers))) <= limits.header_bytes
    ):
        return Head(target, headers if isinstance(headers, list) else list(headers), "1.1", False)
    return _look_into(method, target, version, headers, limits)


def _look_into(method: bytes, target: bytes, version: bytes, headers: Headers, limits: ServerLimits) -> Head:
    """Check a head that is not like almost all others."""
    if version == b"0.9":
        raise BadRequest("The request line lacks its HTTP version.")
    if not version.startswith(b"1."):
        raise APIError("Use HTTP/1.1.", status=505, code="HTTP_VERSION_NOT_SUPPORTED")
    if method == b"CONNECT":
        raise MethodNotAllowed("This server is not a proxy.", headers={"Allow": _METHODS})
    check_size(target, headers, limits)
    fields = _collect(headers)
    if b"transfer-encoding" in fields:
        _check_framing(version, fields)
    hosts = fields.get(b"host", ())
    if len(hosts) != 1 and (hosts or version == b"1.1"):
        raise BadRequest("There must be one Host header.")
    check_host(b"".join(hosts))
    kept = headers if isinstance(headers, list) else list(headers)
    if target[:1] != b"/":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:
            check_host(absolute[1])
            target = (absolute[2] or b"/") + (absolute[3] or b"")
            kept = [(b"host", absolute[1]), *(pair for pair in headers if pair[0] != b"host")]
    check_target(method, target)
    websocket = b"upgrade" in fields and method == b"GET" and _asks_for_websocket(fields)
    if websocket:
        _check_handshake(version, fields)
        check_websocket_fields(headers)
    return Head(target, kept, "1.0" if version == b"1.0" else "1.1", websocket)


def asks_for_websocket(method: bytes, headers: Headers) -> bool:
    """Whether a request is a WebSocket's opening handshake, a valid one or not."""
    fields = _collect(headers)
    return method == b"GET" and b"upgrade" in fields and _asks_for_websocket(fields)


def check_size(target: bytes, headers: Headers, limits: ServerLimits) -> None:
    """Raise 431 where the head is over the limits."""
    size = len(target) + 4 * len(headers) + len(b"".join(chain.from_iterable(headers)))
    if len(headers) > limits.header_count or size > limits.header_bytes:
        raise error_for(431)


def _collect(headers: Headers) -> dict[bytes, list[bytes]]:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value)
    return fields


def check_host(host: bytes) -> None:
    """Raise 400 where `host` is none. An empty one is (RFC 9112 section 3.2)."""
    if host in _known_hosts:
        return
    if not _AUTHORITY.fullmatch(host):
        raise BadRequest("The Host header is not a host.")
    if len(host) < 100 and len(_known_hosts) < 100:
        _known_hosts.add(host)


def check_target(method: bytes, target: bytes) -> None:
    """Raise 400 where `target` is neither a path nor the asterisk of OPTIONS (RFC 9112 section 3.2)."""
    if not _ORIGIN.fullmatch(target) and not (target == b"*" and method == b"OPTIONS"):
        raise BadRequest("The request's target is not a path.")


def check_websocket_fields(headers: Headers) -> None:
    """Raise 400 where a field of the handshake has bytes that cannot be."""
    for name, value in headers:
        if name in _HANDSHAKE_FIELDS and not value.isascii():
            raise BadRequest(f"The header {name.decode()} has characters that it must not have.")


def _check_framing(version: bytes, fields: dict[bytes, list[bytes]]) -> None:
    """Refuse what two servers in a row may understand differently (RFC 9112 sections 6.1 and 6.3), and codings that are not known here."""
    codings = fields[b"transfer-encoding"]
    if b"content-length" in fields or version == b"1.0":
        raise BadRequest("The request says in two ways where its body ends.")
    if len(codings) != 1 or codings[0].lower() != b"chunked":
        raise error_for(501)


def _asks_for_websocket(fields: dict[bytes, list[bytes]]) -> bool:
    return b",".join(fields[b"upgrade"]).strip().lower() == b"websocket" and b"upgrade" in _tokens(
        b",".join(fields.get(b"connection", ()))
    )


def _check_handshake(version: bytes, fields: dict[bytes, list[bytes]]) -> None:
    """RFC 6455 section 4.2.1. The version comes first, for it is the one thing that a client may correct (section 4.2.2)."""
    if fields.get(b"sec-websocket-version") != [b"13"]:
        raise APIError(
            "Use WebSocket version 13.",
            status=426,
            code="UPGRADE_REQUIRED",
            headers={"Sec-WebSocket-Version": "13", "Upgrade": "websocket"},
        )
    if version == b"1.0":
        raise BadRequest("A WebSocket needs HTTP/1.1.")
    if b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]:
        raise BadRequest("A WebSocket's handshake has no body.")
    key = fields.get(b"sec-websocket-key", [])
    try:
        nonce = base64.b64decode(b",".join(key), validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise BadRequest("The Sec-WebSocket-Key is not a key.")


def _tokens(value: bytes) -> Iterable[bytes]:
    return {token.strip().lower() for token in value.split(b",")}
