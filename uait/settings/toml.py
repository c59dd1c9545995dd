"""Reads a TOML file and knows on which line each key stands, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uait.errors import Problem


def read_toml(path: Path) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """Read a settings file.

    Returns:
        Its data; where each key and table stands ("uait.toml line 12") by dotted name; and the problem, where it cannot be read at all.
    """
    try:
        text = path.read_bytes().decode()
        data = tomllib.loads(text)
    except FileNotFoundError:
        return {}, {}, [Problem(str(path), "there is no such file")]
    except OSError as error:
        return {}, {}, [Problem(str(path), f"cannot be read: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        return {}, {}, [Problem(str(path), f"must be UTF-8 text; byte {error.start} is not")]
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path} line {line[1]}" if line else str(path)
        reason = re.sub(r" \(at .*\)$", "", str(error))
        return {}, {}, [Problem(where, f"is not TOML: {reason}")]
    except (ValueError, RecursionError):  # TOML sets no bounds, and Python does
        return {}, {}, [Problem(str(path), "has a number that is too long, or is nested too deeply")]
    return data, {name: f"{path} line {line}" for name, line in _lines(text)}, []


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """The dotted name and line of each key and table in a valid document.

    A statement is as many lines as it takes to be TOML by itself: that is right for any layout, since a statement ends with a line and a
    beginning of one is never valid.
    """
    header, chunk, start = "", "", 0
    last = dict[str, int]()  # index of the last element of each array of tables
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        start = start if chunk else number
        chunk += line + "\n"
        try:
            statement = tomllib.loads(chunk)
        except tomllib.TOMLDecodeError:
            continue
        if (bare := chunk.lstrip()).startswith("["):  # a header may be indented
            header, names = "", _header(statement)
            for depth, name in enumerate(names, 1):
                header = f"{header}.{name}".removeprefix(".")
                if bare.startswith("[[") and depth == len(names):
                    if header not in last:
                        yield header, start
                    last[header] = last.get(header, -1) + 1
                if header in last:
                    header = f"{header}[{last[header]}]"
            yield header, start
        else:
            for name in _names(statement, header):
                yield name, start
        chunk = ""


def _header(statement: Any) -> list[str]:
    names = []
    while isinstance(statement, dict) and statement:
        ((name, statement),) = statement.items()
        names.append(name)
    return names


def _names(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{name}.{key}" if name else key
            yield from _names(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield f"{name}[{index}]"
            yield from _names(inner, f"{name}[{index}]")
