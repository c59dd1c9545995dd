"""Calls to services that do not run in this process: which instance, and what to do when it fails."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Generic, TypeVar

import attrs
import trio

from uait.calls.duplex import Answer, NoAnswer, NotSent, open_answer
from uait.calls.inprocess import Content, RawHeaders
from uait.calls.pool import Pool
from uait.calls.resilience import Bulkhead, CircuitBreaker, RetryBudget, full_jitter
from uait.errors import Unavailable, UpstreamError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

ATTEMPTS = 3
"""How often one call is tried at most."""

REMEMBERED = 1024
"""Instances, and services, whose record is kept; the one that has not been called for longest is forgotten first."""

PATIENCE = 1.0
"""A caller that leaves earlier than this, in seconds, says nothing about the instance."""

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Sending these twice does what sending them once does (RFC 9110 section 9.2.2)."""

BROKEN_GATEWAY = frozenset({502, 503, 504})
"""Statuses that count as a failure of the instance: it answers for somebody who does not."""


@attrs.frozen
class Instance:
    """Where an instance listens, and the record of the calls made to it from here."""

    host: str
    port: int
    breaker: CircuitBreaker = attrs.field(factory=CircuitBreaker)
    bulkhead: Bulkhead = attrs.field(factory=Bulkhead)

    @property
    def authority(self) -> str:
        """`host:port` as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Remote:
    """Calls instances over HTTP.

    Args:
        lookup: gives one instance of a service, balanced, described as discovery does.
    """

    def __init__(self, lookup: Callable[[str], Awaitable[Any]]) -> None:
        self._lookup = lookup
        self.pool = Pool()
        self._instances: _Records[tuple[str, int], Instance] = _Records(lambda address: Instance(*address))
        self._budgets: _Records[str, RetryBudget] = _Records(lambda _: RetryBudget())

    def close(self) -> None:
        """Close the connections that are kept."""
        self.pool.close()

    def open(
        self, name: str, method: str, target: bytes, headers: RawHeaders, content: Content
    ) -> AbstractAsyncContextManager[Answer]:
        """Send a request to an instance of `name`; for the arguments see `open_answer`. The header `Host` is added."""

        def send(instance: Instance) -> AbstractAsyncContextManager[Answer]:
            host = [(b"host", instance.authority.encode())]
            return open_answer(
                self.pool, instance.host, instance.port, method, target, [*host, *headers], content, name=name
            )

        repeatable = method in IDEMPOTENT and (content is None or isinstance(content, bytes))
        return self.attempt(name, send, repeatable=repeatable)

    @asynccontextmanager
    async def attempt(
        self, name: str, send: Callable[[Instance], AbstractAsyncContextManager[T]], *, repeatable: bool
    ) -> AsyncIterator[T]:
        """Enter `send(instance)` with an instance of `name`, and with others where that fails and it is safe.

        Args:
            name: the service.
            send: raises `NotSent` or `NoAnswer` where the instance failed.
            repeatable: whether to try again when the instance may have done the work already.

        Raises:
            NotFound: there is no such service.
            Unavailable: no instance can be reached, or none is fit to be called.
            UpstreamError: the instance broke off.
        """
        for attempt in range(1, ATTEMPTS + 1):
            instance = await self._choose(name)
            budget = self._budgets.get(name)
            if attempt == 1:
                budget.deposit()
            async with AsyncExitStack() as stack:
                since = trio.current_time()
                try:
                    async with instance.bulkhead.enter(name):  # until the answer begins: a stream may last for days
                        answer = await stack.enter_async_context(send(instance))
                except (NotSent, NoAnswer) as error:
                    instance.breaker.failure()
                    safe = repeatable or isinstance(error, NotSent)
                    if attempt == ATTEMPTS or not safe or not budget.withdraw():
                        raise _failure(name, error) from error.__cause__
                except trio.Cancelled:
                    if trio.current_time() - since >= PATIENCE:
                        instance.breaker.failure()
                    else:
                        instance.breaker.abandon()
                    raise
                except BaseException:
                    instance.breaker.abandon()
                    raise
                else:
                    if getattr(answer, "status", None) in BROKEN_GATEWAY:
                        instance.breaker.failure()
                    else:
                        instance.breaker.success()
                    yield answer
                    return
            await trio.sleep(full_jitter(attempt))

    async def _choose(self, name: str) -> Instance:
        """An instance whose breaker has been acquired."""
        for _ in range(ATTEMPTS):
            instance = self._instance(name, await self._lookup(name))
            if instance.breaker.acquire():
                return instance
        raise Unavailable(f"{name} fails too often to be called now.", retry_after=instance.breaker.retry_after)

    def _instance(self, name: str, described: Any) -> Instance:
        try:
            address = str(described["address"]), int(described["port"])
        except (KeyError, TypeError, ValueError) as error:
            raise UpstreamError(f"Discovery gave an instance of {name} without an address.") from error
        return self._instances.get(address)


class _Records(Generic[K, V]):
    """What is remembered of each of the last `REMEMBERED` keys, made where there is nothing yet."""

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._records: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = self._make(key)
            if len(self._records) > REMEMBERED:
                self._records.popitem(last=False)
        self._records.move_to_end(key)
        return record


def _failure(name: str, error: NotSent | NoAnswer) -> Unavailable | UpstreamError:
    if isinstance(error, NotSent):
        return Unavailable(f"{name} cannot be reached.")
    return UpstreamError(f"{name} broke off without an answer.")
