"""What a plugin's source declares, read without running it: `uait plugins` must answer at once, and whatever a plugin does when imported."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import attrs

from uait.entry_points import Declaration


@attrs.frozen(kw_only=True)
class Declared:
    """What could be read.

    Attributes:
        port: the default port; None where it is not written as a number.
        port_variable: the further variable of the port.
        needs: names of services it needs; None where they are not written as such.
        problem: why it cannot be loaded, as far as that shows from outside.
    """

    port: int | None = None
    port_variable: str | None = None
    needs: tuple[str, ...] | None = None
    problem: str = ""


def read_declaration(plugin: Declaration) -> Declared:
    """Find the `@service(...)` of `plugin` in its module's source. What is not written as a plain value stays unknown."""
    module, _, attribute = plugin.value.partition(":")
    try:
        file = _source_of(module)
        if file is None:
            return Declared(problem=f"there is no module {module}")
        if file.suffix != ".py":
            return Declared()
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        return Declared(problem=f"{module} cannot be read: {error}")
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == attribute:
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).rpartition(".")[2] == "service":
                    return _declared({keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg})
            return Declared(port=0, needs=())
    return Declared()


def _declared(written: dict[str, ast.expr]) -> Declared:
    def value(name: str, default: Any) -> Any:
        try:
            return ast.literal_eval(written[name]) if name in written else default
        except ValueError:
            return None

    port, variable, needs = value("port", 0), value("port_variable", None), value("needs", ())
    return Declared(
        port=port if isinstance(port, int) else None,
        port_variable=variable if isinstance(variable, str) else None,
        needs=tuple(map(str, needs)) if isinstance(needs, list | tuple) else None,
    )


def _source_of(module: str) -> Path | None:
    """The file of a module, found without importing the packages around it."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    name = top
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = importlib.machinery.PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
