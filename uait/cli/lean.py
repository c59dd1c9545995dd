"""What a process of ours need not load, or not yet: parts of its libraries that only their own command lines, development servers and encrypted connections use, but which they import at once.

A tenth of the time to the first answer, and megabytes. Only `python -m uait` does so; in a program of somebody else's nothing is touched.
"""

from __future__ import annotations

import gc
import linecache
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_LATER: dict[str, tuple[str, ...]] = {
    "ssl": (),
    "asyncio.sslproto": (),
    "prometheus_client": (),
    "werkzeug.serving": ("run_simple", "is_running_from_reloader"),
    "hypercorn.config": ("Config",),
    "hypercorn.asyncio": ("serve",),
    "hypercorn.trio": ("serve",),
    "hypercorn.typing": (),
    "pdb": (),
}
"""Modules, with the names that others take from them when they are imported and call, if ever, later.

`ssl` is three megabytes. asyncio, an HTTP server that comes with Prometheus' client, werkzeug's development server and hypercorn's configuration want names of its at once. For the sake of `app.run()`, Quart and quart-trio take `serve`, and with it all of hypercorn; the
types that they take, for annotations, bring HTTP/2. Quart's test client brings click's, and that the debugger.
"""

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
    for name in _LATER:
        if name not in sys.modules:
            sys.modules[name] = _later(name)
    if "httpx" not in sys.modules:
        # httpx does without its command line where click, rich or pygments are not installed.
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        import_module("httpx")
        del sys.modules["httpx._main"]
    for name in _LATER:
        package, _, child = name.rpartition(".")
        if package:
            setattr(import_module(package), child, sys.modules[name])


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


def _later(name: str) -> ModuleType:
    package = name.rpartition(".")[0]
    # Not by `find_spec(name)`, which would import the package.
    around = find_spec(package) if package else None
    spec = PathFinder.find_spec(name, around.submodule_search_locations) if around else find_spec(name)
    assert spec is not None
    module = module_from_spec(spec)
    module.__class__ = _Later
    return module


class _Later(ModuleType):
    """A module that runs its code when somebody asks for more than is there, and then is as if it always had been. Its submodules can be imported as ever.

    What `importlib.util.LazyLoader` makes loads already when it is imported for the second time (python/cpython issue 127036).
    """

    def __getattr__(self, name: str) -> Any:
        if name in _LATER[self.__name__]:
            return _Name(self, name)
        if self.__name__ == "hypercorn.typing" and name.endswith(_ONLY_FOR_ANNOTATIONS) and name != "Event":
            return Any
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # the import system and whoever looks through all modules
        path = getattr(self, "__path__", None)
        if path is not None and PathFinder.find_spec(f"{self.__name__}.{name}", path) is not None:
            return import_module(f"{self.__name__}.{name}")
        return _whole(self, name)

    def __dir__(self) -> list[str]:
        _whole(self, "__name__")
        return sorted(vars(self))


def _whole(module: ModuleType, name: str) -> Any:
    """What `module` has by `name` when its code has run. Threads may ask at once: one runs it, the others wait."""
    with _turns[module.__name__]:
        kind, spec = type(module), module.__spec__
        if kind is _Later:
            if module.__name__ in _running:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} yet", name=name, obj=module)
            assert spec is not None
            assert spec.loader is not None
            _running.add(module.__name__)
            try:
                spec.loader.exec_module(module)
            finally:
                _running.discard(module.__name__)
            module.__class__ = ModuleType
    return getattr(module, name)


_turns = {name: threading.RLock() for name in _LATER}
_running: set[str] = set()


class _Name:
    """Stands for a function or a class of a module until it is called, derived from, or asked for something."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self._of = module, name
        self.__module__, self.__name__ = module.__name__, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _whole(*self._of)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(_whole(*self._of), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_whole(*self._of),)

    def __or__(self, other: Any) -> Any:
        return _whole(*self._of) | other

    def __ror__(self, other: Any) -> Any:
        return other | _whole(*self._of)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, _whole(*self._of))

    def __subclasscheck__(self, other: type) -> bool:
        return issubclass(other, _whole(*self._of))
