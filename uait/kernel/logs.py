"""How log records look: lines of text for people, or one JSON object a line for programs. Only `python -m uait` installs them; a library does not."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

from uait.calls.context import current_call

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest of its attributes came by `extra=`."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@contextmanager
def log_to(stream: IO[str], *, format: str, level: str) -> Iterator[None]:
    """Send this process's log to `stream`, and nowhere else, inside the block. Other libraries speak from level WARNING on, uait from `level` on.

    Args:
        stream: usually standard error.
        format: "text" or "json".
        level: name of a level in lower case.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    root, ours = logging.getLogger(), logging.getLogger("uait")
    before = (root.handlers[:], root.level, ours.level)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


def _request_id(record: logging.LogRecord) -> str | None:
    given = getattr(record, "request_id", None)
    if given is None and (call := current_call()) is not None:
        given = call.request_id
    return given


class TextFormatter(logging.Formatter):
    """`10:02:11.512 warning chat: message [request id]`, in local time; a traceback follows on lines of its own, which are indented.

    What clients send stands in messages, and in those of exceptions, so control characters are escaped: nobody can write a line of their own into the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = _escape(record.getMessage())
        request_id = _request_id(record)
        name = record.name.removeprefix("uait.")
        line = f"{moment}.{int(record.msecs):03d} {record.levelname.lower()} {name}: {message}"
        if request_id:
            line += f" [{request_id}]"
        if record.exc_info:
            line += _below(self.formatException(record.exc_info))
        if record.stack_info:
            line += _below(record.stack_info)
        return line


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _below(text: str) -> str:
    return "".join(f"\n  {_escape(line)}" for line in text.split("\n"))


class JSONFormatter(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `request_id`, whatever came by `extra=`, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id(record):
            entry["request_id"] = request_id
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in entry}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return json.dumps(entry, default=str)
        except (
            TypeError,
            ValueError,
            RecursionError,
        ):  # what came by `extra=` contains itself, or has keys that are none
            return json.dumps({key: value if isinstance(value, str) else repr(value) for key, value in entry.items()})
