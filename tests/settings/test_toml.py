"""Which line a key stands on, whatever the layout."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uait.settings.toml import read_toml


def lines(file: Path) -> dict[str, int]:
    data, origins, problems = read_toml(file)
    assert not problems
    assert data == tomllib.loads(file.read_text())
    return {name: int(where.rpartition(" ")[2]) for name, where in origins.items()}


def test_lines_of_every_layout(write: Callable[[str], Path]) -> None:
    file = write(
        '''
# a comment = 1
top = 1
"quoted key" = 2
a.b.c = 3

text = """
[not.a.header]
fake = 1
"""
many = [
  1,  # one
  { x = 1 },
]
literal = \'\'\'
[[no]]\'\'\'
[section]   # comment
key = { inner = [1, 2] }
[section."sub table"]
deep = true
[[array]]
name = "first"
[array.table]
k = 1
[[array]]
name = "second"
'''
    )
    assert lines(file) == {
        "top": 2,
        "quoted key": 3,
        "a": 4,
        "a.b": 4,
        "a.b.c": 4,
        "text": 6,
        "many": 10,
        "many[0]": 10,
        "many[1]": 10,
        "many[1].x": 10,
        "literal": 14,
        "section": 16,
        "section.key": 17,
        "section.key.inner": 17,
        "section.key.inner[0]": 17,
        "section.key.inner[1]": 17,
        "section.sub table": 18,
        "section.sub table.deep": 19,
        "array": 20,
        "array[0]": 20,
        "array[0].name": 21,
        "array[0].table": 22,
        "array[0].table.k": 23,
        "array[1]": 24,
        "array[1].name": 25,
    }


def test_headers_may_be_indented(write: Callable[[str], Path]) -> None:
    file = write(
        """
[section]
key = 1
  [section.table]
  key = 2
\t[other]
\tkey = 3
  [[array]]
  key = 4
"""
    )
    assert lines(file) == {
        "section": 1,
        "section.key": 2,
        "section.table": 3,
        "section.table.key": 4,
        "other": 5,
        "other.key": 6,
        "array": 7,
        "array[0]": 7,
        "array[0].key": 8,
    }


def test_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "uait.toml"
    file.write_bytes(b"a = 1\r\n[s]\r\nb = 2\r\n")

    assert lines(file) == {"a": 1, "s": 2, "s.b": 3}


values = st.one_of(st.integers(-9, 9), st.text(max_size=9), st.booleans(), st.lists(st.integers(0, 9), max_size=3))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.dictionaries(st.text(max_size=5), values, max_size=5), blank=st.integers(0, 3))
def test_any_key_is_found_on_the_line_where_it_was_written(tmp_path: Path, table: dict[str, Any], blank: int) -> None:
    written, expected = ["[section]"], {}
    for key, value in table.items():
        written += ["# note"] * blank
        written += [f"{_toml(key)} = {_toml(value)}"]
        expected[key] = len(written)
    file = tmp_path / "any.toml"
    file.write_text("\n".join(written))

    found = lines(file)

    for key, line in expected.items():
        assert found[f"section.{key}"] == line


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08X}" for letter in value) + '"'
    return repr(value)
