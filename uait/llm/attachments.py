"""Pictures and files inside a request: checked before anything is sent, and taken apart for dialects that want the bytes beside their type."""

from __future__ import annotations

import base64
import binascii
import re

import attrs

from uait.errors import BadRequest
from uait.llm.messages import Image, OtherPart

MAX_BYTES = 20 * 1024 * 1024
"""Of one picture or file, decoded. No provider takes larger ones inside a request."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.ASCII)


@attrs.frozen
class Inline:
    """Something by its bytes. `data` is base64."""

    media_type: str
    data: str
    name: str = ""


def read_image(image: Image) -> Inline | str:
    """A picture's bytes, or its `https:` or `http:` address.

    Raises:
        BadRequest: it is neither, or too large.
    """
    if image.url.startswith(("https://", "http://")):
        return image.url
    found = _read(image.url, "An image")
    if not found.media_type.startswith("image/"):
        raise BadRequest(f"An image cannot be of the type {found.media_type!r}.", code="INVALID_ATTACHMENT")
    return found


def read_attachment(part: OtherPart) -> Inline | None:
    """A file's or recording's bytes; None where it is something else, or only a reference to what another server keeps.

    Raises:
        BadRequest: it cannot be read, or is too large.
    """
    kind = part.data.get("type")
    value = part.data.get(kind) if isinstance(kind, str) else None
    if not isinstance(value, dict):
        return None
    if kind == "file" and isinstance(value.get("file_data"), str):
        found = _read(value["file_data"], "A file")
        return attrs.evolve(found, name=str(value.get("filename") or ""))
    if kind == "input_audio" and isinstance(value.get("data"), str):
        return _read(f"data:audio/{value.get('format') or 'wav'};base64,{value['data']}", "A recording")
    return None


def _read(url: str, what: str) -> Inline:
    head = _DATA_URL.match(url)
    if head is None:
        raise BadRequest(
            f"{what} must be given as 'data:TYPE;base64,...' or, where the provider fetches it, as an https address.",
            code="INVALID_ATTACHMENT",
        )
    data = url[head.end() :]
    if len(data) > MAX_BYTES * 4 // 3 + 4:
        raise BadRequest(f"{what} must not be larger than {MAX_BYTES} bytes.", code="ATTACHMENT_TOO_LARGE")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{what} is not valid base64.", code="INVALID_ATTACHMENT") from None
    return Inline(head[1], data)
