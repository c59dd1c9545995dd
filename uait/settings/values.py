"""From plain data to typed values, strictly: nothing is guessed, every fault is found, and no secret is repeated in a message."""

from __future__ import annotations

import difflib
import enum
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import attrs
import cattrs
from cattrs.cols import is_any_set, is_sequence

from uait.errors import PluginError

T = TypeVar("T")

_UNIONS: tuple[Any, ...] = (Union, types.UnionType)
_SECRET = re.compile(r"(^|_)(keys?|tokens?|secrets?|passwords?|passwd|credentials?|auth|dsn)$", re.IGNORECASE)


@attrs.frozen
class Fault:
    """One value that does not fit.

    Attributes:
        path: names and indexes that lead to it, from the value that was checked.
        reason: what would be right, and what was given.
        discreet: the same without what was given, for a value that may be a secret.
    """

    path: tuple[str | int, ...]
    reason: str
    discreet: str

    def under(self, *names: str | int) -> Fault:
        """The same fault, seen from further outside."""
        return attrs.evolve(self, path=(*names, *self.path))

    def __str__(self) -> str:
        secret = any(isinstance(name, str) and _SECRET.search(name) for name in self.path)
        return f"{dotted(self.path)} {self.discreet if secret else self.reason}"


class Misfit(ValueError):
    """Data that does not fit its type; `faults` has all that is wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


def dotted(path: Iterable[str | int]) -> str:
    """`("chat", "models", 0)` as `chat.models[0]`."""
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in path).removeprefix(".")


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Half a sentence that helps with an unknown name: the nearest known one, or else all of them. A common `prefix` makes no two names alike."""
    known = sorted(known)
    if near := difflib.get_close_matches(name.removeprefix(prefix), [each.removeprefix(prefix) for each in known], n=1):
        return f"did you mean {prefix + near[0]!r}?"
    return f"known are: {', '.join(known)}" if known else "there are none to choose from"


def fields_of(cls: type[Any]) -> list[tuple[attrs.Attribute[Any], Any]]:
    """An attrs class's fields, each with its type, annotations resolved.

    Raises:
        PluginError: an annotation names something that cannot be found from the class's module.
    """
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise PluginError(
            f"{cls.__qualname__}: {error}; import at run time what the annotations of a settings class name"
        ) from error
    return [(field, hints.get(field.name, Any)) for field in attrs.fields(cls) if field.init]


def structure(value: Any, kind: Any) -> Any:
    """Make `kind` (anything that cattrs can, attrs classes included) of plain data that a TOML file, a flag or a program gave.

    Raises:
        Misfit: with all faults.
    """
    try:
        return _converter().structure(value, kind)
    except Exception as error:
        raise Misfit(_faults(error, value, kind)) from error


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Call an attrs class with values of the right types, by the names its constructor knows.

    Raises:
        Misfit: with every field whose validator objects, or one fault with an empty path where the class objects as a whole.
    """
    try:
        return cls(**values)
    except Exception as error:
        raise Misfit(list(_objections(cls, values)) or [_objection(error, ())]) from error


def _objections(cls: type[Any], values: Mapping[str, Any]) -> Iterator[Fault]:
    """attrs stops at the first validator that objects; an instance made without them lets us ask each."""
    try:
        with attrs.validators.disabled():
            instance = cls(**values)
    except Exception:  # what it objects to is known already
        return
    for field in attrs.fields(cls):
        try:
            if field.validator is not None:
                field.validator(instance, field, getattr(instance, field.name))
        except Exception as error:
            yield _objection(error, (field.alias or field.name,), getattr(instance, field.name))


def _objection(error: Exception, path: tuple[str, ...], value: Any = None) -> Fault:
    text = str(error.args[0]) if error.args else type(error).__name__
    for name in path:
        text = text.removeprefix(f"'{name}' ").removeprefix(f"'_{name}' ")
    return Fault(path, text.replace(repr(value), _shown(value)), "has a value that cannot be used")


def from_text(text: str, kind: Any) -> Any:
    """Read a variable's or flag's text as plain data for `kind`. Text that cannot be read so comes back as it is, for `structure` to reject."""
    kind = _without_none(kind)
    arguments = typing.get_args(kind)
    if kind in (str, Path, Any) or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return text
    if typing.get_origin(kind) is Literal:
        return next((choice for choice in arguments if str(choice).lower() == text.lower()), text)
    if kind is bool:
        return {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    if (is_sequence(kind) or is_any_set(kind)) and not text.lstrip().startswith("["):
        return [from_text(part.strip(), arguments[0] if arguments else str) for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number too long or nesting too deep for Python
        return text


def describe(kind: Any) -> str:
    """What a value of this type is called in a message."""
    kind = _without_none(kind)
    if typing.get_origin(kind) in _UNIONS:
        return " or ".join(describe(member) for member in typing.get_args(kind) if member is not type(None))
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in kind)
    if is_sequence(kind) or is_any_set(kind):
        return "a list"
    if attrs.has(kind) or issubclass(typing.get_origin(kind) or object, Mapping):
        return "a table"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return names.get(kind) or f"a value for {getattr(kind, '__name__', kind)}"


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in _UNIONS:
        rest = [each for each in typing.get_args(kind) if each is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return kind


def _unexpected(kind: Any, given: Any) -> Fault:
    expected = f"must be {describe(kind)}"
    return Fault((), f"{expected}, not {_shown(given)}", expected)


def _shown(given: Any) -> str:
    """A value in a message. An address may have a password in it, so it is not repeated."""
    if isinstance(given, Mapping | list | tuple):
        return "a table" if isinstance(given, Mapping) else "a list"
    if isinstance(given, bool):
        return str(given).lower()
    text = repr(given)
    if len(text) > 60 or "://" in text:
        return "a longer text" if isinstance(given, str) else f"a {type(given).__name__}"
    return text


def _faults(error: BaseException, value: Any, kind: Any) -> Iterator[Fault]:
    """Flatten what cattrs raised."""
    if isinstance(error, PluginError):
        raise error
    if isinstance(error, cattrs.StructureHandlerNotFoundError):
        raise PluginError(f"settings cannot have a field of type {kind}") from error
    if isinstance(error, Misfit):
        yield from error.faults
    elif isinstance(error, cattrs.IterableValidationError):
        # Of a table: lists and classes are ours. The note tells the key.
        for inner in error.exceptions:
            (key,) = (note.index for note in inner.__notes__ if isinstance(note, cattrs.IterableValidationNote))
            for fault in _faults(inner, value[key], typing.get_args(_without_none(kind))[-1]):
                yield fault.under(key)
    else:
        yield _unexpected(kind, value)


def _strict(kind: Any, accepts: tuple[type, ...]) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, accepts) or (isinstance(value, bool) and kind is not bool):
            raise Misfit([_unexpected(kind, value)])
        if kind is Path and (not str(value) or "\0" in str(value)):
            raise Misfit([_unexpected(kind, value)])  # it would be wherever the process happens to be; or nowhere
        return kind(value)

    return hook


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for kind, accepts in ((bool, (bool,)), (int, (int,)), (float, (int, float)), (str, (str,)), (Path, (str, Path))):
        converter.register_structure_hook(kind, _strict(kind, accepts))

    def of_class(cls: type) -> Any:
        return lambda value, _: _structure_class(value, cls)

    def of_items(kind: Any) -> Any:
        return lambda value, _: _structure_items(value, kind)

    def of_union(kind: Any) -> Any:
        return lambda value, _: _structure_union(value, kind)

    converter.register_structure_hook_factory(attrs.has, of_class)
    converter.register_structure_hook_factory(lambda kind: typing.get_origin(kind) in _UNIONS, of_union)
    converter.register_structure_hook_factory(lambda kind: is_sequence(kind) or is_any_set(kind), of_items)
    return converter


def _structure_items(value: Any, kind: Any) -> Any:
    """A list, tuple or set. cattrs would take a text apart into its characters."""
    arguments = typing.get_args(kind) or (Any,)
    if not isinstance(value, list | tuple):
        raise Misfit([_unexpected(kind, value)])
    made, faults = [], []
    for index, item in enumerate(value):
        try:
            made.append(structure(item, arguments[0]))
        except Misfit as misfit:
            faults += [fault.under(index) for fault in misfit.faults]
    if faults:
        raise Misfit(faults)
    container = typing.get_origin(kind) or kind
    return container(made) if container in (list, set, frozenset) else tuple(made)


def _structure_union(value: Any, kind: Any) -> Any:
    members = typing.get_args(kind)
    if value is None and type(None) in members:
        return None
    misfits = []
    for member in members:
        if member is not type(None):
            try:
                return structure(value, member)
            except Misfit as misfit:
                misfits.append(misfit)
    raise misfits[0] if len(misfits) == 1 else Misfit([_unexpected(kind, value)])


def _structure_class(value: Any, cls: type[T]) -> T:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise Misfit([_unexpected(cls, value)])
    fields = {field.alias or field.name: kind for field, kind in fields_of(cls)}
    faults = [unknown_key(name, fields) for name in value if name not in fields]
    values = {}
    for name in [name for name in fields if name in value]:
        try:
            values[name] = structure(value[name], fields[name])
        except Misfit as misfit:
            faults += [fault.under(name) for fault in misfit.faults]
    mandatory = {field.alias or field.name for field, _ in fields_of(cls) if field.default is attrs.NOTHING}
    faults += [Fault((name,), "is missing", "is missing") for name in mandatory if name not in value]
    if mandatory <= values.keys():
        try:
            made = build(cls, values)
        except Misfit as misfit:
            faults += misfit.faults
    if faults:
        raise Misfit(faults)
    return made


def unknown_key(name: str, known: Iterable[str]) -> Fault:
    """The fault of a key that nobody knows."""
    reason = f"is not known; {did_you_mean(name, known)}"
    return Fault((name,), reason, reason)
