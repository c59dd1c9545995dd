"""The steps that Quart takes around every handler, made short where nothing is hooked into them.

Nothing is left out: hooks, signals and blueprints work as Quart documents them. What has none costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import CO_COROUTINE
from typing import Any

from quart.signals import appcontext_tearing_down, request_tearing_down
from quart_trio import QuartTrio


class Pipeline(QuartTrio):
    """QuartTrio without the cost of hooks that nobody has set. (The arguments of the steps differ between Quart's lines, and are handed on as they come.)"""

    def ensure_async(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # What is no coroutine function by its own code may still be one by a mark, or behind a wrapper.
        code = getattr(func, "__code__", None)
        if code is not None and code.co_flags & CO_COROUTINE:
            return func
        return super().ensure_async(func)

    async def preprocess_request(self, *args: Any) -> Any:
        if self.before_request_funcs or self.url_value_preprocessors:
            return await super().preprocess_request(*args)
        return None

    async def do_teardown_request(self, *args: Any) -> None:
        if self.teardown_request_funcs or request_tearing_down.receivers:
            await super().do_teardown_request(*args)

    async def do_teardown_appcontext(self, *args: Any) -> None:
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            await super().do_teardown_appcontext(*args)
