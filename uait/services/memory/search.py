"""A search: its signals run side by side, and what they have found by the deadline is put together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import attrs
import trio

from uait.errors import APIError, NotFound
from uait.services.memory.filters import THERE, conditions_of, moment_asked
from uait.services.memory.find import (
    MIDDLE,
    POOL,
    Found,
    Scope,
    candidates_of,
    in_spans,
    look_up,
    neighbours_of,
    scope_of,
    with_theirs,
)
from uait.services.memory.history import as_it_was
from uait.services.memory.model import MAX_OFFSET, Explanation, Memory, MemoryList, MemoryQuery
from uait.services.memory.question import Question, read_question
from uait.services.memory.ranking import WEIGHTS, Collection, Scored, diversify, rank
from uait.services.memory.rows import memories_by_seq, one
from uait.services.memory.vectors import Vectors
from uait.storage import Database, utc_now
from uait.web import encode_cursor

DIVERSE = 12
"""How many of the best must not say the same."""

LAST_MINUTE = 0.003
"""Seconds of a budget that are kept for putting together what was found."""

_log = logging.getLogger("uait.memory")


@attrs.define
class _Signals:
    """What the signals have found so far."""

    words: Found | None = None
    times: list[int] = attrs.field(factory=list)
    similar: dict[int, float] = attrs.field(factory=dict)
    states: dict[str, str] = attrs.field(factory=lambda: {"words": "off", "times": "off", "vectors": "off"})

    def look_up(self, connection: apsw.Connection, scope: Scope, question: Question) -> None:
        """Ask the signals of the database one after the other."""
        if question.terms:
            self.words, self.states["words"] = look_up(connection, scope, question), "complete"
        if question.spans:
            self.times, self.states["times"] = in_spans(connection, scope, question.spans), "complete"


@attrs.frozen
class Ranking:
    """The order in which memories are shown: those that were ranked, then the others that have something of the question.

    Attributes:
        total: how many they are together.
    """

    scored: list[Scored]
    total: int
    found: Found | None

    def page(self, start: int, most: int) -> list[int]:
        """Some of them, from `start` on."""
        seqs = [each.candidate.seq for each in self.scored]
        if start + most > len(seqs) and self.total > len(seqs) and self.found is not None:
            ranked = frozenset(seqs)
            seqs += [seq for seq in self.found.best(self.total) if seq not in ranked]
        return seqs[start : start + most]


class Finder:
    """Finds a user's memories."""

    def __init__(self, database: Database, vectors: Vectors | None = None) -> None:
        self._database = database
        self._vectors = vectors

    async def search(self, user_id: str, query: MemoryQuery) -> MemoryList:
        """A page of the user's memories that fit: with words, the best first; without, the newest first.

        Raises:
            NotFound: the cursor is none that this list gave.
            BadRequest: the filter is none.
        """
        now = utc_now()
        conditions, parameters = conditions_of(query, now)
        moment = moment_asked(query, now)
        text = query.query.strip()
        question = (
            read_question(
                text,
                query.now or datetime.now(UTC),
                concept=WEIGHTS.concept,
                synonym=WEIGHTS.synonym,
                weak=WEIGHTS.weak,
            )
            if text
            else None
        )
        if question is None or (not question.terms and not question.spans):
            # Without words, and for signs and pictures, which are looked for as they are.
            if text:
                conditions, parameters = [*conditions, "instr(m.content, ?) > 0"], [*parameters, text]
            found = await self._database.read(
                lambda connection: _newest(connection, user_id, query, conditions, parameters, moment)
            )
            return attrs.evolve(found, signals={} if query.explain or query.budget_ms else None)
        after = query.after()
        if after is not None and not (isinstance(after, int) and 0 <= after <= MAX_OFFSET):
            raise NotFound("This list has no page with this cursor; begin again without one.")
        start = query.offset if after is None else after

        def look(connection: apsw.Connection) -> Scope | None:
            return scope_of(connection, user_id, conditions, parameters, moment)

        def show(connection: apsw.Connection, scope: Scope | None, signals: _Signals) -> MemoryList:
            ranking = Ranking([], 0, None) if scope is None else order(connection, scope, question, signals, query)
            shown = memories_by_seq(connection, user_id, ranking.page(start, query.limit))
            if query.as_of is not None:
                shown = [as_it_was(connection, memory, moment) for memory in shown]
            end = start + len(shown)
            return MemoryList(
                memories=shown,
                count=len(shown),
                total=ranking.total,
                query=query.query,
                next_cursor=encode_cursor(end) if shown and end < ranking.total else None,
                explanations=_explain(ranking, start, shown) if query.explain else None,
                signals=signals.states if query.explain or query.budget_ms else None,
            )

        signals = _Signals()
        if self._vectors is None and query.budget_ms is None:
            # Nothing to wait for: one way to the database and back.
            def at_once(connection: apsw.Connection) -> MemoryList | None:
                scope = look(connection)
                if scope is None:
                    return None
                signals.look_up(connection, scope, question)
                return show(connection, scope, signals)

            found_at_once = await self._database.read(at_once)
            if found_at_once is not None:
                return found_at_once
            return MemoryList(
                memories=[], count=0, total=0, query=query.query, signals=signals.states if query.explain else None
            )
        scope = await self._database.read(look)
        if scope is not None:
            await self._gather(user_id, scope, question, query, signals)
        return await self._database.read(lambda connection: show(connection, scope, signals))

    async def _gather(
        self, user_id: str, scope: Scope, question: Question, query: MemoryQuery, signals: _Signals
    ) -> None:
        async def words() -> None:
            signals.words = await self._database.read(lambda connection: look_up(connection, scope, question))

        async def times() -> None:
            signals.times = await self._database.read(lambda connection: in_spans(connection, scope, question.spans))

        async def vectors() -> None:
            assert self._vectors is not None
            signals.similar = await self._vectors.similar(user_id, scope, query.query)

        work: dict[str, Callable[[], Awaitable[None]]] = {}
        if question.terms:
            work["words"] = words
        if question.spans:
            work["times"] = times
        if self._vectors is not None:
            work["vectors"] = vectors
        budget = float("inf") if query.budget_ms is None else max(0.0, query.budget_ms / 1000 - LAST_MINUTE)

        async def part(name: str, run: Callable[[], Awaitable[None]]) -> None:
            try:
                await run()
                signals.states[name] = "complete"
            except APIError as error:
                if name != "vectors":
                    raise
                # The words find without them; whoever asks to explain is told.
                _log.warning("a search goes without vectors: %s", error.text)
                signals.states[name] = "failed"

        for name in work:
            signals.states[name] = "late"
        if len(work) == 1 and query.budget_ms is None:
            for name, run in work.items():
                await part(name, run)
            return
        failures: list[APIError] = []

        async def guarded(name: str, run: Callable[[], Awaitable[None]]) -> None:
            try:
                await part(name, run)
            except APIError as error:
                # As itself, not in a group: the first one is the answer.
                failures.append(error)
                nursery.cancel_scope.cancel(reason="another signal of the search has failed")

        with trio.move_on_after(budget):
            async with trio.open_nursery() as nursery:
                for name, run in work.items():
                    nursery.start_soon(guarded, name, run)
        if failures:
            raise failures[0]


def order(
    connection: apsw.Connection, scope: Scope, question: Question, signals: _Signals, query: MemoryQuery
) -> Ranking:
    """Put together what the signals found."""
    found = signals.words
    question = found.question if found is not None else question
    by_words = found.best(POOL) if found is not None else []
    by_likeness = sorted(signals.similar, key=lambda seq: signals.similar[seq], reverse=True)
    pool = [*by_words, *by_likeness[:POOL], *signals.times]
    middle = dict.fromkeys([*by_likeness[: MIDDLE // 4], *by_words[:MIDDLE]])
    beside = neighbours_of(connection, scope, middle)
    everyone = dict.fromkeys([*pool, *(seq for sides in beside.values() for side in sides for seq in side)])
    beside = with_theirs(beside)
    now = query.now or datetime.now(UTC)
    candidates = candidates_of(
        connection,
        scope,
        everyone,
        similar=signals.similar,
        now=now,
        half_life=timedelta(days=query.half_life_days) if query.half_life_days else None,
    )
    collection = Collection(scope.memories, scope.average, found.counts if found is not None else {})
    scored = [each for each in rank(question, candidates, beside, collection) if each.score > 0]
    scored = diversify(scored, DIVERSE)
    rough = found.rough if found is not None else {}
    both = rough.keys() & {each.candidate.seq for each in scored}
    return Ranking(scored, len(scored) + len(rough) - len(both), found)


def _newest(
    connection: apsw.Connection,
    user_id: str,
    query: MemoryQuery,
    conditions: list[str],
    parameters: list[Any],
    moment: str,
) -> MemoryList:
    """The page of a list without words: the newest first, from the cursor on."""
    scope = scope_of(connection, user_id, conditions, parameters, moment)
    total, found = 0, []
    demands = ["m.user_id = ?", *(scope.conditions if scope else ())]
    values = [user_id, *(scope.parameters if scope else ())]
    offset = query.offset
    match query.after():
        case None:
            further: tuple[str, list[Any]] = ("1", [])
        case [str(created_at), str(memory_id)]:
            further, offset = ("(m.created_at, m.id) < (?, ?)", [created_at, memory_id]), 0
        case _:
            raise NotFound("This list has no page with this cursor; begin again without one.")
    if scope is not None:
        if conditions or THERE in demands:
            (total,) = one(connection, f"SELECT count(*) FROM memory AS m WHERE {' AND '.join(demands)}", values)
        else:
            total = scope.memories
        found = connection.execute(
            f"SELECT m.seq FROM memory AS m WHERE {' AND '.join(demands)} AND {further[0]} ORDER BY m.created_at DESC, m.id DESC LIMIT ? OFFSET ?",
            (*values, *further[1], query.limit + 1, offset),
        ).fetchall()
    memories = memories_by_seq(connection, user_id, [seq for (seq,) in found[: query.limit]])
    cursor = encode_cursor([memories[-1].created_at, memories[-1].id]) if len(found) > len(memories) > 0 else None
    if query.as_of is not None:
        memories = [as_it_was(connection, memory, moment) for memory in memories]
    return MemoryList(memories=memories, count=len(memories), total=total, query=query.query, next_cursor=cursor)


def _explain(ranking: Ranking, start: int, shown: list[Memory]) -> list[Explanation]:
    parts = dict(enumerate(ranking.scored))
    found = []
    for at, memory in enumerate(shown, start):
        scored = parts.get(at)
        signals = {name: round(value, 4) for name, value in scored.signals.items() if value} if scored else {}
        found.append(Explanation(id=memory.id, score=round(scored.score, 4) if scored else 0.0, signals=signals))
    return found
