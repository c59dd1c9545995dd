"""The public face is complete, documented and lazy; imports run down the floors, never up."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uait

PACKAGE = Path(uait.__file__).parent
FLOORS = {
    "errors": 1,
    **dict.fromkeys(("entry_points", "settings", "server", "calls", "feeds", "storage"), 2),
    **dict.fromkeys(("kernel", "web", "llm"), 3),
    **dict.fromkeys(("services", "cli", "testing"), 4),
    **dict.fromkeys(("__init__", "__main__"), 5),
}


def named_for_type_checkers() -> dict[str, str]:
    """What the `if TYPE_CHECKING:` block of `uait/__init__.py` imports: name to module."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert {*named_for_type_checkers(), "__version__"} == set(uait.__all__)
    assert named_for_type_checkers() == uait._WHERE


@pytest.mark.parametrize("name", [name for name in uait.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(uait, name)

    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"uait.{name} has no docstring"


def test_the_plugin_authors_page_documents_everything_on_it() -> None:
    for name, value in vars(uait.Context).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"Context.{name} has no docstring"
    documented = (inspect.getdoc(uait.Context) or "").partition("Attributes:")[2]
    described = {name.strip() for line in documented.splitlines() for name in line.partition(":")[0].split(",")}
    assert {field.name for field in uait.Context.__attrs_attrs__} <= described


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        uait.nonsense  # noqa: B018


def test_importing_uait_imports_neither_trio_nor_quart() -> None:
    code = "import sys, uait; print([name for name in ('trio', 'quart', 'httpx', 'apsw') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def imports() -> Iterator[tuple[str, list[str], list[str]]]:
    """Every import of ours by ours: place, importing module's parts, imported module's parts."""
    for path in sorted(PACKAGE.rglob("*.py")):
        here = list(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: write whole module names"
                names = [
                    f"{node.module}.{alias.name}" if node.module == "uait" else str(node.module) for alias in node.names
                ]
            for name in names:
                parts = name.split(".")
                if parts[0] == "uait" and len(parts) > 1 and parts[1] in FLOORS:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", here, parts[1:]


def test_imports_never_run_up_the_floors() -> None:
    assert [place for place, here, there in imports() if FLOORS[there[0]] > FLOORS[here[0]]] == []


def test_no_service_knows_anothers_inside() -> None:
    crossing = [
        place
        for place, here, there in imports()
        if here[0] == there[0] == "services" and len(there) > 1 and here[1] != there[1]
    ]
    assert crossing == []


def test_the_server_knows_neither_services_nor_ai() -> None:
    allowed = {"errors", "server"}
    assert [place for place, here, there in imports() if here[0] == "server" and there[0] not in allowed] == []
