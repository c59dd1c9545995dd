"""Asking instances how they are. For what this may reach, see `model.Check`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from random import Random
from typing import TypeAlias

import httpx
import trio

from uait.services.discovery.model import Check, Health, Instance
from uait.services.discovery.registry import is_checked
from uait.services.discovery.timers import Timers

_FIRST_LINE = 1024
"""Bytes within which an HTTP answer has said its status."""

_JITTER = 0.1
"""Each interval is up to this much longer or shorter, so that checks do not march in step."""

Probe: TypeAlias = Callable[[Check], Awaitable[tuple[Health, str]]]


def judge_status(status: int) -> tuple[Health, str]:
    """What an HTTP answer says about whoever gave it: 2xx is well, 429 says that it has too much to do."""
    if 200 <= status < 300:
        return Health.PASSING, f"HTTP {status}"
    return (Health.WARNING if status == 429 else Health.CRITICAL), f"HTTP {status}"


async def probe(check: Check) -> tuple[Health, str]:
    """Carry out one check within its timeout.

    Returns:
        A health word, critical for every failure, and a note of a few words.
    """
    limit = check.timeout
    with trio.move_on_after(limit):
        try:
            if check.http is not None:
                return judge_status(await _get_status(httpx.URL(check.http)))
            host, _, port = (check.tcp or "").rpartition(":")
            await trio.aclose_forcefully(await trio.open_tcp_stream(host.strip("[]"), int(port)))
            return Health.PASSING, "connected"
        except OSError:
            return Health.CRITICAL, "cannot connect"
        except trio.BrokenResourceError as error:
            untrusted = isinstance(error.__cause__, ssl.SSLError)
            return Health.CRITICAL, "no trusted TLS connection" if untrusted else "the connection broke"
        except (ValueError, OverflowError, httpx.InvalidURL):
            return Health.CRITICAL, "not an address that can be checked"
        except _NotHTTP:
            return Health.CRITICAL, "the answer is not HTTP"
    return Health.CRITICAL, f"no answer within {limit:g} s"


class _NotHTTP(Exception):
    pass


async def _get_status(url: httpx.URL) -> int:
    """The status of a GET. Only the first line is waited for: a check has no use for the rest, and nothing that is not read can be large."""
    tls = url.scheme == "https"
    tcp = await trio.open_tcp_stream(url.raw_host.decode(), url.port or (443 if tls else 80))
    stream: trio.abc.Stream = trio.SSLStream(tcp, _tls_context(), server_hostname=url.host) if tls else tcp
    try:
        await stream.send_all(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: uait-discovery\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            % (url.raw_path, url.netloc)
        )
        head = b""
        while b"\n" not in head and len(head) < _FIRST_LINE:
            data = await stream.receive_some(_FIRST_LINE)
            if not data:
                break
            head += data
    finally:
        await trio.aclose_forcefully(stream)
    found = re.match(rb"HTTP/1\.[01] (\d{3})[ \r\n]", head)
    if found is None:
        raise _NotHTTP
    return int(found[1])


@cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


class Checker:
    """Runs the checks of all instances at their intervals, a bounded number at once.

    Args:
        report: told each outcome; may wait.
        get: the instance of that id as it is now, or None.
        limit: checks under way at once.
        probe: carries out one check; another one for tests.
    """

    def __init__(
        self,
        report: Callable[[str, Health, str], Awaitable[None]],
        get: Callable[[str], Instance | None],
        limit: int,
        *,
        probe: Probe = probe,
        random: Random | None = None,
    ) -> None:
        self._report = report
        self._get = get
        self._limiter = trio.CapacityLimiter(limit)
        self._probe = probe
        self._random = random or Random()
        self._timers = Timers()
        self._running: set[str] = set()
        self._changed = trio.Event()

    def watch(self, instance: Instance) -> None:
        """Check `instance` from now on, for the first time soon; where it is not to be checked, do not."""
        if not is_checked(instance) or instance.check is None:
            self._timers.discard(instance.id)
            return
        first = min(1.0, instance.check.interval) * self._random.random()
        self._timers.set(instance.id, trio.current_time() + first)
        self._changed.set()

    def forget(self, instance_id: str) -> None:
        """The instance is gone. A check of it that is under way is finished, and its report finds nobody."""
        self._timers.discard(instance_id)

    async def run(self) -> None:
        """Check for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                for instance_id in self._timers.due(trio.current_time()):
                    if instance_id in self._running:
                        continue  # registered again meanwhile; its next check is planned when this one ends
                    await self._limiter.acquire_on_behalf_of(instance_id)
                    instance = self._get(instance_id)
                    if instance is None or instance.check is None or not is_checked(instance):
                        self._limiter.release_on_behalf_of(instance_id)
                        continue
                    self._running.add(instance_id)
                    nursery.start_soon(self._run_one, instance_id, instance.check)
                await self._wait()

    async def _wait(self) -> None:
        following = self._timers.next()
        with trio.CancelScope(deadline=float("inf") if following is None else following):
            await self._changed.wait()
        self._changed = trio.Event()

    async def _run_one(self, instance_id: str, check: Check) -> None:
        try:
            health, note = await self._probe(check)
            instance = self._get(instance_id)
            # One that was registered anew meanwhile may be somewhere else: what was found says nothing about it.
            if instance is not None and instance.check == check:
                await self._report(instance_id, health, note)
        finally:
            self._running.discard(instance_id)
            self._limiter.release_on_behalf_of(instance_id)
        instance = self._get(instance_id)
        if instance is not None and instance.check is not None and is_checked(instance):
            if instance.check != check:
                self.watch(instance)
                return
            pause = instance.check.interval * self._random.uniform(1 - _JITTER, 1 + _JITTER)
            self._timers.set(instance_id, trio.current_time() + pause)
            self._changed.set()
