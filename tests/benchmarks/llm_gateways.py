"""uait's gateway beside LiteLLM's proxy and Portkey's gateway, in one run: one load generator, one upstream, and that upstream asked without anything between.

    python tests/benchmarks/llm_gateways.py [--rounds 3] [--seconds 1.5] [--only uait LiteLLM Portkey] [--rows completions chunks ...]

Each gateway runs on one core, generator and upstreams on another; who is measured has its core to itself, in turns, round after round, so that whatever else the machine does meets all alike. Read the ratios: the rate
first, and where the machine is shared the processor time that all processes of a gateway spend on one answer or chunk, which others disturb less. That neither generator nor upstream is the bottleneck is to be seen in
how busy they were. uait keeps its accounts of tokens in a database meanwhile, and runs its other five services; the others have no database here.

The rows:

* completions: answers a second with 16 clients, of an upstream that answers at once;
* latency: what one client waits longer than without a gateway, median;
* chunks: chunks a second with 16 and 64 streams, each chunk sent by itself, 30,000 a second over all, as far as the gateway takes them;
* first-token: what one client waits longer for the first token of a stream, median;
* cancel: how long after the client of a stream has left the upstream's connection is closed;
* memory, idle and after all that, and the time to start: always.

LiteLLM and Portkey are installed from PyPI and npm into the user's cache when first needed, which takes minutes; what cannot be installed or does not start is named and left out. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import attrs
import trio
from _llm_load import Result, load
from _llm_servers import INSTANT, PACED, Gateway, Unavailable, Upstreams, gateway, install
from _load import pinned
from _process import used
from gateway import PACED as PACED_UPSTREAM
from gateway import leaving, upstream

GATEWAYS = ("uait", "LiteLLM", "Portkey")
ALONE = "upstream alone"
COUNT = 200
"""Chunks of a measured stream."""

FIRST = PACED.format(count=4, interval=0.005)
LEFT = "tokens?count=500&delay=0.01"
PATIENCE = 3.0
"""Seconds after which a connection that is still open counts as never closed."""

LEAVINGS = 10
QUIET = 10.0
"""Seconds that a gateway may go on with what the last measurement has left behind."""


@attrs.frozen(kw_only=True)
class Row:
    """A load, and what is read of its result.

    Attributes:
        value: what is compared; with `added`, what is less by the upstream's own is better, else more is.
        count: what processor time is counted for, in `unit`s.
    """

    name: str
    title: str
    model: str
    clients: int
    stream: bool
    value: Callable[[Result], float]
    unit: str
    count: Callable[[Result], int]
    added: bool = False


def streams(clients: int) -> Row:
    return Row(
        name="chunks",
        title=f"streamed, each chunk by itself, {clients} streams",
        model=paced(clients),
        clients=clients,
        stream=True,
        value=lambda result: result.events / result.seconds,
        unit="chunk",
        count=lambda result: result.events,
    )


def paced(clients: int) -> str:
    return PACED.format(count=COUNT, interval=clients / OFFERED)


OFFERED = 30_000
"""Chunks a second that the upstream sends over all streams together, as far as they are taken."""

ROWS = (
    Row(
        name="completions",
        title="completions, 16 clients",
        model=INSTANT,
        clients=16,
        stream=False,
        value=lambda result: result.answers / result.seconds,
        unit="answer",
        count=lambda result: result.answers,
    ),
    Row(
        name="latency",
        title="completions, one client, median",
        model=INSTANT,
        clients=1,
        stream=False,
        value=lambda result: result.answer,
        unit="answer",
        count=lambda result: result.answers,
        added=True,
    ),
    streams(16),
    streams(64),
    Row(
        name="first-token",
        title="first token of a stream, one client, median",
        model=FIRST,
        clients=1,
        stream=True,
        value=lambda result: result.first,
        unit="stream",
        count=lambda result: result.answers,
        added=True,
    ),
)
NAMES = (*dict.fromkeys(row.name for row in ROWS), "cancel")


@attrs.define
class Measured:
    """Of one gateway in one row: round after round."""

    values: list[float] = attrs.field(factory=list)
    costs: list[float] = attrs.field(factory=list)
    failure: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def cost(self) -> float:
        """Microseconds of processor time of one."""
        return statistics.median(self.costs)


def measure(row: Row, each: Gateway, mock: int, seconds: float, into: Measured) -> tuple[float, float]:
    """Measure once. Returns how busy generator and upstream were."""
    if into.failure:
        return 0.0, 0.0
    before, mock_before = each.used(), used(mock)
    try:
        result = load(each.port, row.clients, seconds, each.request(row.model, stream=row.stream))
    except RuntimeError as error:
        into.failure = str(error)
        return 0.0, 0.0
    spent, mock_spent = each.used() - before, used(mock) - mock_before
    into.values.append(row.value(result))
    into.costs.append(spent / max(1, row.count(result)) * 1e6)
    calm(each, mock)
    return result.busy, mock_spent / result.seconds


def calm(each: Gateway, mock: int) -> None:
    """Wait until the work for clients that have left is over."""
    end = time.perf_counter() + QUIET
    while time.perf_counter() < end:
        before = each.used() + used(mock)
        time.sleep(0.2)
        if each.used() + used(mock) - before <= 0.02:
            return


def report(row: Row, results: dict[str, Measured], busy: tuple[float, float], rounds: int, seconds: float) -> None:
    print(f"\n{row.title} ({rounds} times {seconds:g} s)")
    alone = results[ALONE]
    ours = results.get("uait")
    for name, found in results.items():
        if found.failure or not found.values:
            print(f"  {name:15} failed: {found.failure}")
            continue
        low, high = min(found.values), max(found.values)
        if row.added:
            added = statistics.median(map(float.__sub__, found.values, alone.values))
            line = f"{found.value:8.2f} ms ({low:.2f} to {high:.2f})"
            line += f", {added:6.2f} ms added" if name != ALONE else ""
        else:
            line = f"{found.value:8,.0f} {row.unit}s/s ({low:,.0f} to {high:,.0f})"
        if name != ALONE:
            line += f", {found.cost:8,.0f} µs of processor time each"
            if ours is not None and found is not ours and ours.values and not ours.failure:
                if row.added:
                    mine = statistics.median(map(float.__sub__, ours.values, alone.values))
                    line += f"; uait adds {mine / added:.2f} times that, by processor time {ours.cost / found.cost:.2f}"
                else:
                    ratio = statistics.median(map(float.__truediv__, ours.values, found.values))
                    line += f"; uait {ratio:.1f} times that, by processor time {found.cost / ours.cost:.1f}"
        print(f"  {name:15} {line}")
    print(f"  at the busiest: generator {busy[0]:.0%}, upstream {busy[1]:.0%} of their core", flush=True)


def report_cancel(each: Gateway, mock: int) -> None:
    data = each.request(LEFT, stream=True)
    try:
        took = sorted(trio.run(partial(leaving, each.port, mock, data, LEAVINGS, PATIENCE)))
    except trio.TooSlowError:
        print(f"  {each.name:15} not within {PATIENCE:g} s", flush=True)
    except RuntimeError as error:
        print(f"  {each.name:15} failed: {error}", flush=True)
    else:
        print(f"  {each.name:15} median {statistics.median(took):.1f} ms, longest {took[-1]:.1f} ms", flush=True)


@contextmanager
def started(names: list[str], upstreams: Upstreams) -> Iterator[list[Gateway]]:
    """Those of the gateways that can be had."""
    models = [INSTANT, FIRST, LEFT, *(row.model for row in ROWS if row.name == "chunks")]
    with ExitStack() as stack:
        found = []
        for name in names:
            try:
                print(f"{name} {install(name)}", flush=True)
                found.append(stack.enter_context(gateway(name, upstreams, models)))
            except (Unavailable, OSError) as why:
                print(f"{name} is left out: {why}", flush=True)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of each measurement (default 1.5)")
    parser.add_argument("--only", nargs="+", default=GATEWAYS, choices=GATEWAYS, help="leave out the other gateways")
    parser.add_argument("--rows", nargs="+", default=NAMES, choices=NAMES, help="leave out the other rows")
    arguments = parser.parse_args()
    pinned()
    with (
        upstream() as (instant, instant_pid),
        upstream(PACED_UPSTREAM) as (paced_port, paced_pid),
        started([name for name in GATEWAYS if name in arguments.only], Upstreams(instant, paced_port)) as gateways,
    ):
        upstreams = Upstreams(instant, paced_port)
        time.sleep(2)  # what is put off until after the start
        idle = {each.name: each.memory() for each in gateways}
        for row in (row for row in ROWS if row.name in arguments.rows):
            slow = row.model.startswith("paced")
            mock, port = (paced_pid, paced_port) if slow else (instant_pid, instant)
            everyone = [Gateway(ALONE, mock, port, 0.0, upstreams), *gateways]
            results = {each.name: Measured() for each in everyone}
            busy = (0.0, 0.0)
            for number in range(arguments.rounds + 1):
                warming = number == 0
                for each in everyone[number % len(everyone) :] + everyone[: number % len(everyone)]:
                    into = Measured() if warming else results[each.name]
                    now = measure(row, each, mock, 0.5 if warming else arguments.seconds, into)
                    if into.failure:
                        results[each.name].failure = into.failure
                    if each.name != ALONE:
                        busy = max(busy[0], now[0]), max(busy[1], now[1])
            report(row, results, busy, arguments.rounds, arguments.seconds)
        if "cancel" in arguments.rows:
            print(f"\nupstream closed after the client of a stream left, {LEAVINGS} times")
            for each in gateways:
                report_cancel(each, instant)
        print("\nmemory, MiB resident, all processes, idle / after that; seconds to start")
        for each in gateways:
            print(f"  {each.name:15} {idle[each.name]:6.1f} / {each.memory():6.1f}; {each.started:.2f} s")


if __name__ == "__main__":
    main()
