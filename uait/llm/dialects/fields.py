"""Reading a foreign dialect's JSON: every field checked, every problem told, unknown fields left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from uait.errors import Problem, ValidationFailed
from uait.llm.catalog import DEFAULT_NAMES
from uait.llm.messages import Dialect, Original

T = TypeVar("T")

MAX_ITEMS = 10_000
"""Of any one list."""

MAX_NEEDS = 8
"""That are named to a client; one would do."""


class Fields:
    """One JSON object, and where it stands. All objects of one request share what is noted.

    A field that is null counts as left out, as the SDKs send it.

    Attributes:
        problems: what is wrong.
        needs: what is right, and has no counterpart in any other dialect.
    """

    def __init__(self, data: Any, path: str = "$", parent: Fields | None = None) -> None:
        self.problems: list[Problem] = [] if parent is None else parent.problems
        self.needs: list[str] = [] if parent is None else parent.needs
        self.path = path
        self.data: dict[str, Any] = {}
        if isinstance(data, dict):
            self.data = data
        else:
            self.problems.append(Problem(path, "must be an object"))

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def wrong(self, key: str, message: str) -> None:
        """Note a problem with one field."""
        self.problems.append(Problem(f"{self.path}.{key}", message))

    def only_here(self, what: str) -> None:
        """Note that this object is something which cannot be said in another dialect."""
        if len(self.needs) < MAX_NEEDS:
            self.needs.append(f"{what[:100]} ({self.path})")

    def check(self) -> None:
        """Raise what has been found wrong.

        Raises:
            ValidationFailed: with every problem, as status 400, which is what these dialects use.
        """
        if self.problems:
            raise ValidationFailed(self.problems, status=400)

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.data.get(key)
        if value is None or isinstance(value, str):
            return default if value is None else value
        self.wrong(key, "must be a string")
        return default

    def required_text(self, key: str) -> str:
        if key not in self:
            self.wrong(key, "is required")
        return self.text(key) or ""

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.data.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(key, "must be true or false")
        return default

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(key, "must be a number")
        elif not low <= value <= high:
            self.wrong(key, f"must be from {low:g} to {high:g}")
        else:
            return float(value)
        return None

    def count(self, key: str, low: int = 1) -> int | None:
        value = self.data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(key, "must be an integer")
        elif not low <= value < 2**31:
            self.wrong(key, f"must be at least {low}")
        else:
            return value
        return None

    def child(self, key: str) -> Fields | None:
        """The object under `key`, where there is one."""
        return Fields(self.data[key], f"{self.path}.{key}", self) if key in self else None

    def texts(self, key: str) -> tuple[str, ...]:
        """A string, or a list of them."""
        value = self.data.get(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and len(value) <= MAX_ITEMS:
            return tuple(value)
        self.wrong(key, "must be a string or a list of strings")
        return ()

    def each(self, key: str, read: Callable[[Fields], T], *, required: bool = False) -> tuple[T, ...]:
        """A list of objects, each of which `read` makes something of."""
        return tuple(read(item) for item in self.items(key, required=required))

    def items(self, key: str, *, required: bool = False) -> Iterable[Fields]:
        value = self.data.get(key)
        if value is None and not required:
            return ()
        if not isinstance(value, list) or len(value) > MAX_ITEMS or (required and not value):
            self.wrong(key, f"must be a list of 1 to {MAX_ITEMS} objects" if required else "must be a list of objects")
            return ()
        return [Fields(item, f"{self.path}.{key}[{n}]", self) for n, item in enumerate(value)]


def original(dialect: Dialect, fields: Fields, headers: Mapping[str, str] = {}) -> Original:
    """The request itself, for a provider of its dialect; once everything in it is read."""
    model = fields.text("model") or ""
    return Original(
        dialect=dialect,
        body=fields.data,
        shown="" if model in DEFAULT_NAMES else model,
        headers=headers,
        needs=tuple(fields.needs),
    )
