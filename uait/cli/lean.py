"""What a process of ours need not load: parts of its libraries that only their own command lines and development servers use, but which they import at once.

A tenth of the time to the first answer, and megabytes. Only `python -m uait` does so; in a program of somebody else's nothing is touched.
"""

from __future__ import annotations

import gc
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_LATER = ("hypercorn.asyncio", "hypercorn.trio", "hypercorn.typing", "pdb")
"""For the sake of `app.run()`, Quart and quart-trio take `serve` from the first two, and with it all of hypercorn. From the third they take names for annotations, which brings HTTP/2. Its test client brings click's, and that the debugger."""

_ONLY_FOR_ANNOTATIONS = ("Callable", "Scope", "Event")
"""How the names end that are taken from `hypercorn.typing`."""

YOUNG = 10_000
"""New objects between two looks at them: a few requests' worth, where the default is less than one's."""


class _Sources(dict[str, Any]):
    """Does not keep what attrs writes for each of its classes, a megabyte in all, which only a debugger would show."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        return default if key.startswith("<attrs generated") else super().setdefault(key, default)


def leave_out_what_is_not_needed() -> None:
    """Before anything else is imported. Idempotent."""
    linecache.cache = _Sources(linecache.cache)
    if "httpx" not in sys.modules:
        # httpx does without its command line where click, rich or pygments are not installed.
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        import_module("httpx")
        del sys.modules["httpx._main"]
    for name in _LATER:
        if name not in sys.modules:
            package, _, child = name.rpartition(".")
            sys.modules[name] = _Later(name)
            if package:
                setattr(sys.modules[package], child, sys.modules[name])


@contextmanager
def settled() -> Iterator[None]:
    """Spare the garbage collector, inside the block, what is there at its beginning: code and services, which stay, and through which it would go again and again. New objects are looked at less often.

    A program that has frozen something itself is left as it is.
    """
    if gc.get_freeze_count():
        yield
        return
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class _Later(ModuleType):
    """Stands for a package until somebody wants more of it than the name `serve`. Its submodules can be imported as ever."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        spec = find_spec(name)
        assert spec is not None
        self.__spec__ = spec
        self.__path__ = spec.submodule_search_locations or []

    def serve(self, *args: Any, **kwargs: Any) -> Any:
        return _loaded(self.__name__).serve(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.__name__ == "hypercorn.typing" and name.endswith(_ONLY_FOR_ANNOTATIONS) and name != "Event":
            return Any
        return getattr(_loaded(self.__name__), name)


def _loaded(name: str) -> ModuleType:
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]
    return import_module(name)
