"""Where the index is asked: which memories have something of a question, which stand beside them, what ranking must know of them.

Everything here reads one user's part of the index. Common words cost no more than `NEWEST` of their places each, and ranking sees at most `POOL` memories and their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import attrs
import orjson

from uait.services.memory.filters import THERE
from uait.services.memory.indexing import ASKS, HAS_NUMBER, HAS_TIME
from uait.services.memory.question import Question, Term, Variant
from uait.services.memory.ranking import WEIGHTS, Candidate, Collection
from uait.services.memory.times import Span

NEWEST = 5000
"""Most places of one word that are looked at, the newest ones."""

NEWEST_RELATED = 1000
"""The same for a word that only stands for one of the question's."""

CANDIDATES = 20_000
"""Most memories that a search weighs roughly."""

POOL = 160
"""Most memories that a search ranks, beside their neighbours."""

MIDDLE = 70
"""Of how many the neighbours are looked at."""

AROUND = 2
"""How many neighbours before, and after."""

IN_SPAN = 150
"""Most memories that are taken only because of their time."""

WORDS = 8000
"""Characters of a memory's words that ranking reads."""


@attrs.frozen(kw_only=True)
class Scope:
    """Whose memories, and which of them.

    Attributes:
        owner: the user's number in the index.
        conditions, parameters: on `memory AS m`; none where all will do.
    """

    owner: int
    memories: int
    average: float
    conditions: tuple[str, ...] = ()
    parameters: tuple[Any, ...] = ()


@attrs.frozen
class Found:
    """What the words found.

    Attributes:
        question: with its words that nowhere stand looked for as beginnings.
        counts: in how many memories each variant stands.
        rough: the memories that have something of it, each with its rough worth, the best first.
    """

    question: Question
    counts: dict[str, int]
    rough: list[tuple[int, float]]


def scope_of(
    connection: apsw.Connection,
    user_id: str,
    conditions: Sequence[str],
    parameters: Sequence[Any],
    moment: str,
    *,
    all_times: bool = False,
) -> Scope | None:
    """Where to look, or None where the user has nothing. Memories that are not there at `moment` are left out."""
    rows: list[Any] = connection.execute(
        "SELECT number, memories, words FROM owner WHERE user_id = ? AND memories > 0", (user_id,)
    ).fetchall()
    if not rows:
        return None
    owner, memories, words = rows[0]
    more: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    if not all_times:
        bounded = connection.execute(
            "SELECT 1 FROM memory WHERE user_id = ? AND (valid_from IS NOT NULL OR valid_until IS NOT NULL OR expires_at IS NOT NULL) LIMIT 1",
            (user_id,),
        ).fetchall()
        if bounded:
            more, values = (THERE,), (moment, moment, moment)
    return Scope(
        owner=owner,
        memories=memories,
        average=words / memories,
        conditions=(*conditions, *more),
        parameters=(*parameters, *values),
    )


def expression(owner: int, variant: Variant) -> str:
    """A variant as FTS5 looks for it: its words are text in quotes, never syntax, and begin with the owner's number."""
    words = " ".join(f"{owner}_{word}" for word in variant.words)
    return f'"{words}" *' if variant.prefix else f'"{words}"'


def places(connection: apsw.Connection, scope: Scope, variant: Variant, *, filtered: bool = False) -> list[int]:
    """Where a variant stands, the newest first."""
    if filtered:
        rows: list[Any] = connection.execute(
            "SELECT memory_text.rowid FROM memory_text CROSS JOIN memory AS m ON m.seq = memory_text.rowid "
            f"WHERE memory_text MATCH ? AND {' AND '.join(scope.conditions)} ORDER BY memory_text.rowid DESC LIMIT {_most(variant)}",
            (expression(scope.owner, variant), *scope.parameters),
        ).fetchall()
    else:
        rows = connection.execute(
            f"SELECT rowid FROM memory_text WHERE memory_text MATCH ? ORDER BY rowid DESC LIMIT {_most(variant)}",
            (expression(scope.owner, variant),),
        ).fetchall()
    return [row[0] for row in rows]


def look_up(connection: apsw.Connection, scope: Scope, question: Question) -> Found:
    """Find what has something of the question."""
    found: dict[str, list[int]] = {}
    for term in question.terms:
        for variant in term.variants:
            if variant.text not in found:
                found[variant.text] = places(connection, scope, variant)
    nothing = not any(found.values())
    terms = []
    for term in question.terms:
        # A word that nowhere stands may be the beginning of one that does; a short one only where there is nothing else.
        if not found[term.text] and (nothing or len(term.text) > 3):
            wide = Variant(term.variants[0].words, WEIGHTS.prefix, prefix=True)
            if listed := places(connection, scope, wide):
                found[term.text] = listed
                term = Term((wide, *term.variants[1:]))
        terms.append(term)
    question = attrs.evolve(question, terms=tuple(terms))
    if scope.conditions:
        for term in question.terms:
            for variant in term.variants:
                if len(found[variant.text]) == _most(variant):
                    found[variant.text] = places(connection, scope, variant, filtered=True)
    counts = {
        variant.text: _count(variant, len(found[variant.text]), scope)
        for term in question.terms
        for variant in term.variants
    }
    rough = _rough(scope, question, counts, found)
    if scope.conditions:
        allowed = allow(connection, scope, rough)
        rough = {seq: worth for seq, worth in rough.items() if seq in allowed}
    return Found(question, counts, sorted(rough.items(), key=lambda item: (item[1], item[0]), reverse=True))


def _most(variant: Variant) -> int:
    return NEWEST if variant.weight >= WEIGHTS.weak else NEWEST_RELATED


def _count(variant: Variant, places: int, scope: Scope) -> int:
    """In how many memories it stands; where not all were looked at, a guess: those of a third of all."""
    return places if places < _most(variant) else max(places, scope.memories // 3)


def _rough(scope: Scope, question: Question, counts: dict[str, int], found: dict[str, list[int]]) -> dict[int, float]:
    """What each memory has of the question, whatever its length. The rarest words first: what only has common ones may be left out."""
    collection = Collection(scope.memories, scope.average, counts)
    worth: dict[int, float] = {}
    weighed = [
        (max(collection.weight(v) for v in term.variants if found[v.text]), term)
        for term in question.terms
        if any(found[v.text] for v in term.variants)
    ]
    weighed.sort(key=lambda each: each[0], reverse=True)
    for _, term in weighed:
        best: dict[int, float] = {}
        for variant in sorted(term.variants, key=collection.weight):
            weight = collection.weight(variant)
            best.update(dict.fromkeys(found[variant.text], weight))
        full = len(worth) >= CANDIDATES // 10
        for seq, weight in best.items():
            if seq in worth:
                worth[seq] += weight
            elif not full or len(best) <= POOL:
                worth[seq] = weight
    return worth


def allow(connection: apsw.Connection, scope: Scope, seqs: Iterable[int]) -> set[int]:
    """Those that meet the conditions."""
    given = orjson.dumps(list(seqs)).decode()
    rows: list[Any] = connection.execute(
        f"SELECT m.seq FROM json_each(?) AS given CROSS JOIN memory AS m ON m.seq = given.value WHERE {' AND '.join(scope.conditions)}",
        (given, *scope.parameters),
    ).fetchall()
    return {row[0] for row in rows}


def in_spans(connection: apsw.Connection, scope: Scope, spans: Sequence[Span]) -> list[int]:
    """Memories from the times that a question speaks of."""
    rows: list[Any] = connection.execute(
        "SELECT min(moment), max(moment) FROM memory_words WHERE owner = ?", (scope.owner,)
    ).fetchall()
    if not rows or rows[0][0] is None:
        return []
    first, last = rows[0]
    seqs: list[int] = []
    for span in spans:
        for start, end in _stretches(span, first, last):
            listed: list[Any] = connection.execute(
                "SELECT seq FROM memory_words WHERE owner = ? AND moment >= ? AND moment < ? ORDER BY moment LIMIT ?",
                (scope.owner, start, end, IN_SPAN),
            ).fetchall()
            seqs += [seq for (seq,) in listed]
    seqs = list(dict.fromkeys(seqs))[:IN_SPAN]
    return [seq for seq in seqs if seq in allow(connection, scope, seqs)] if scope.conditions else seqs


def _stretches(span: Span, first: int, last: int) -> list[tuple[int, int]]:
    if not span.yearless:
        return [(int(span.start.timestamp()), int(span.end.timestamp()))]
    years = range(datetime.fromtimestamp(first, UTC).year, datetime.fromtimestamp(last, UTC).year + 1)
    length = span.end - span.start
    found = []
    for year in list(years)[-10:]:
        start = span.start.replace(year=year, day=min(span.start.day, 28))
        found.append((int(start.timestamp()), int((start + length).timestamp())))
    return found


def neighbours_of(
    connection: apsw.Connection, scope: Scope, seqs: Sequence[int]
) -> dict[int, tuple[list[int], list[int]]]:
    """For each memory those before it in its session, the nearest first, and those after it; all of them meet the conditions."""
    given = orjson.dumps(list(seqs)).decode()
    found: dict[int, tuple[list[int], list[int]]] = {}
    for side, (sign, order) in enumerate((("<", "DESC"), (">", "ASC"))):
        rows: list[Any] = connection.execute(
            f"""
            SELECT here.seq, beside.seq FROM json_each(?) AS given CROSS JOIN memory_words AS here ON here.seq = given.value
            CROSS JOIN memory_words AS beside ON beside.seq IN (
                SELECT seq FROM memory_words WHERE session = here.session AND session != 0
                AND (moment, place, seq) {sign} (here.moment, here.place, here.seq)
                ORDER BY moment {order}, place {order}, seq {order} LIMIT {AROUND}
            ) WHERE here.session != 0 ORDER BY here.seq, beside.moment {order}, beside.place {order}, beside.seq {order}
            """,
            (given,),
        ).fetchall()
        for here, beside in rows:
            found.setdefault(here, ([], []))[side].append(beside)
    if scope.conditions:
        allowed = allow(connection, scope, {seq for sides in found.values() for side in sides for seq in side})
        found = {
            here: ([s for s in before if s in allowed], [s for s in after if s in allowed])
            for here, (before, after) in found.items()
        }
    return found


def with_theirs(beside: dict[int, tuple[list[int], list[int]]]) -> dict[int, tuple[list[int], list[int]]]:
    """The same with the neighbours of the neighbours, as far as they are known from it: without them they would be at a disadvantage."""
    found = dict(beside)
    for here, (before, after) in beside.items():
        chain = [*reversed(before), here, *after]
        for at, seq in enumerate(chain):
            if seq in beside:
                continue
            sides = (chain[max(0, at - AROUND) : at][::-1], chain[at + 1 : at + 1 + AROUND])
            known = found.get(seq)
            if known is not None:
                sides = (max(sides[0], known[0], key=len), max(sides[1], known[1], key=len))
            found[seq] = sides
    return found


def candidates_of(
    connection: apsw.Connection,
    scope: Scope,
    seqs: Iterable[int],
    *,
    similar: dict[int, float],
    now: datetime,
    half_life: timedelta | None,
) -> list[Candidate]:
    """What ranking must know of memories."""
    rows: list[Any] = connection.execute(
        f"""
        SELECT w.seq, substr(w.words, 1, {WORDS}), w.tags, w.length, w.session, w.moment, w.speaker, w.flags, m.importance
        FROM json_each(?) AS given CROSS JOIN memory_words AS w ON w.seq = given.value CROSS JOIN memory AS m ON m.seq = w.seq
        WHERE w.owner = ?
        """,
        (orjson.dumps(list(seqs)).decode(), scope.owner),
    ).fetchall()
    found = []
    for seq, words, tags, length, session, moment, speaker, flags, importance in rows:
        at = datetime.fromtimestamp(moment, UTC)
        fade = 1.0
        if half_life is not None:
            fade = max(0.3, 0.5 ** max(0.0, (now - at) / half_life))
        found.append(
            Candidate(
                seq=seq,
                words=f" {words} ",
                tags=f" {tags} ",
                length=length,
                session=session,
                moment=at,
                speaker=frozenset(speaker.split()),
                asks=bool(flags & ASKS),
                has_time=bool(flags & HAS_TIME),
                has_number=bool(flags & HAS_NUMBER),
                importance=importance,
                similarity=similar.get(seq),
                fade=fade,
            )
        )
    return found
