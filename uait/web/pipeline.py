"""The steps that Quart takes around every handler, made short where nothing is hooked into them.

Nothing is left out: hooks, signals and blueprints work as Quart documents them. What has none costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import CO_COROUTINE, signature
from typing import Any

import attrs
from quart.signals import appcontext_tearing_down, request_finished, request_started, request_tearing_down
from quart_trio import QuartTrio

from uait.web.exchange import RawHeaders
from uait.web.memo import memo

_CONTEXT_FIRST = "ctx" in signature(QuartTrio.full_dispatch_request).parameters
"""Whether Quart's steps take the context before everything else (from 0.23 on), or behind it, or not at all."""


@memo
def _is_plain(kind: type[Any]) -> bool:
    return issubclass(kind, (dict, list)) or attrs.has(kind)


def is_plain(result: object) -> bool:
    """Whether what a handler returned is written as JSON, with 200 and no header of its own."""
    return _is_plain(type(result))


@attrs.frozen
class PlainAnswer:
    """What is written as JSON, with its status and the headers that the handler gave."""

    value: Any
    status: int = 200
    headers: RawHeaders = attrs.field(factory=list)


_NOT_PLAIN = frozenset({"content-type", "content-length", "transfer-encoding"})
"""Headers that change more than themselves."""


def read_plain(result: object) -> PlainAnswer | None:
    """What a handler returned, where it is JSON with at most a status and simple headers beside it; None where Quart has to make a response of it."""
    if is_plain(result):
        return PlainAnswer(result)
    if type(result) is not tuple or not 2 <= len(result) <= 3 or not is_plain(result[0]):
        return None
    value, status, given = result if len(result) == 3 else (*result, {})
    if type(status) is not int or status in (204, 304) or type(given) is not dict:
        return None
    headers = []
    for name, text in given.items():
        lower = name.lower()
        if lower in _NOT_PLAIN or type(text) is not str or not text.isprintable():
            return None
        headers.append((lower.encode("latin-1"), text.encode("latin-1")))
    return PlainAnswer(value, status, headers)


class Pipeline(QuartTrio):
    """QuartTrio without the cost of hooks that nobody has set. (The arguments of the steps differ between Quart's lines, and are handed on as they come.)"""

    def ensure_async(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # What is no coroutine function by its own code may still be one by a mark, or behind a wrapper.
        code = getattr(func, "__code__", None)
        if code is not None and code.co_flags & CO_COROUTINE:
            return func
        return super().ensure_async(func)

    async def answer(self, context: Any) -> Any:
        """What `full_dispatch_request` does; but a plain result that no hook wants to see is given as a `PlainAnswer`, since a `Response` around it takes longer than writing it."""
        if request_started.receivers:
            return await self.full_dispatch_request(context)
        try:
            result = await self.preprocess_request(context)
            if result is None:
                result = await self.dispatch_request(context)
        except (Exception, BaseExceptionGroup) as error:
            result = await self.handle_user_exception(*((context, error) if _CONTEXT_FIRST else (error,)))
        plain = read_plain(result)
        if plain is not None and not self._is_finished_by_hooks(context):
            return plain
        return await self.finalize_request(*((context, result) if _CONTEXT_FIRST else (result, context)))

    def _is_finished_by_hooks(self, context: Any) -> bool:
        return bool(
            context._after_request_functions
            or request_finished.receivers
            or any(self.after_request_funcs.values())
            or not self.session_interface.is_null_session(context.session)
        )

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
