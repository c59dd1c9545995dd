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

POOL = 100
"""Most memories that a search ranks, beside their neighbours."""

MIDDLE = 50
"""Of how many the neighbours are looked at."""

AROUND = 3
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
        important: whether any memory has an importance.
        conditions, parameters: on `memory AS m`; none where all will do.
    """

    owner: int
    memories: int
    average: float
    important: bool = False
    conditions: tuple[str, ...] = ()
    parameters: tuple[Any, ...] = ()


@attrs.frozen
class Found:
    """What the words found.

    Attributes:
        question: with its words that nowhere stand looked for as beginnings.
        counts: in how many memories each variant stands.
        rough: the memories that have something of it, each with its rough worth.
    """

    question: Question
    counts: dict[str, int]
    rough: dict[int, float]

    def best(self, most: int) -> list[int]:
        """The first so many, the best first, equally good ones the newest first."""
        rough = self.rough
        if not rough:
            return []
        # Only those that come into question are put in order: there may be thousands of others.
        bound = sorted(rough.values(), reverse=True)[min(most, len(rough)) - 1]
        listed = sorted([(worth, seq) for seq, worth in rough.items() if worth >= bound], reverse=True)
        return [seq for _, seq in listed[:most]]


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
        """
        SELECT number, memories, words,
            EXISTS (SELECT 1 FROM memory WHERE user_id = ?1 AND (valid_from IS NOT NULL OR valid_until IS NOT NULL OR expires_at IS NOT NULL)),
            EXISTS (SELECT 1 FROM memory WHERE user_id = ?1 AND importance IS NOT NULL)
        FROM owner WHERE user_id = ?1 AND memories > 0
        """,
        (user_id,),
    ).fetchall()
    if not rows:
        return None
    owner, memories, words, bounded, important = rows[0]
    more: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    if bounded and not all_times:
        more, values = (THERE,), (moment, moment, moment)
    return Scope(
        owner=owner,
        memories=memories,
        average=words / memories,
        important=bool(important),
        conditions=(*conditions, *more),
        parameters=(*parameters, *values),
    )


def expression(owner: int, variant: Variant) -> str:
    """A variant as FTS5 looks for it: its words are text in quotes, never syntax, and begin with the owner's number."""
    words = " ".join(f"{owner}_{word}" for word in variant.words)
    return f'"{words}" *' if variant.prefix else f'"{words}"'


def places(connection: apsw.Connection, scope: Scope, variant: Variant, *, filtered: bool = False) -> list[int]:
    """Where a variant stands, the newest first."""
    given: tuple[Any, ...] = (expression(scope.owner, variant),)
    source, demands = "memory_text", "memory_text MATCH ?"
    if filtered:
        source += " CROSS JOIN memory AS m ON m.seq = memory_text.rowid"
        demands = " AND ".join((demands, *scope.conditions))
        given += scope.parameters
    # As one text: thousands of rows would take three times as long.
    rows: list[Any] = connection.execute(
        "SELECT json_group_array(place) FROM "
        f"(SELECT memory_text.rowid AS place FROM {source} WHERE {demands} ORDER BY memory_text.rowid DESC LIMIT {_most(variant)})",
        given,
    ).fetchall()
    listed: list[int] = orjson.loads(rows[0][0])
    return listed


def look_up(connection: apsw.Connection, scope: Scope, question: Question) -> Found:
    """Find what has something of the question."""
    found: dict[str, list[int]] = {}
    # What the question says itself comes first: of that more is looked at.
    for variant in sorted((v for term in question.terms for v in term.variants), key=lambda each: each.related):
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
    return Found(question, counts, rough)


def _most(variant: Variant) -> int:
    return NEWEST_RELATED if variant.related or variant.prefix else NEWEST


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
        known = worth.keys() & best.keys()
        for seq in known:
            best[seq] += worth[seq]
        if len(worth) >= CANDIDATES // 10 and len(best) > POOL:
            worth.update((seq, best[seq]) for seq in known)
        else:
            worth.update(best)
    return worth


def allow(connection: apsw.Connection, scope: Scope, seqs: Iterable[int]) -> set[int]:
    """Those that meet the conditions."""
    given = orjson.dumps(list(seqs)).decode()
    rows: list[Any] = connection.execute(
        "SELECT json_group_array(m.seq) FROM json_each(?) AS given CROSS JOIN memory AS m ON m.seq = given.value "
        f"WHERE {' AND '.join(scope.conditions)}",
        (given, *scope.parameters),
    ).fetchall()
    return set(orjson.loads(rows[0][0]))


def in_spans(connection: apsw.Connection, scope: Scope, spans: Sequence[Span]) -> list[int]:
    """Memories from the times that a question speaks of."""
    rows: list[Any] = connection.execute(
        # Apart from each other each is one look at the index; together they would read all of it.
        "SELECT (SELECT min(moment) FROM memory_words WHERE owner = ?1), (SELECT max(moment) FROM memory_words WHERE owner = ?1)",
        (scope.owner,),
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
    # A span of the last year that there is would end after it.
    years = range(datetime.fromtimestamp(first, UTC).year, min(datetime.fromtimestamp(last, UTC).year, 9998) + 1)
    length = span.end - span.start
    found = []
    for year in list(years)[-10:]:
        start = span.start.replace(year=year, day=min(span.start.day, 28))
        found.append((int(start.timestamp()), int((start + length).timestamp())))
    return found


def neighbours_of(
    connection: apsw.Connection, scope: Scope, seqs: Iterable[int]
) -> dict[int, tuple[list[int], list[int]]]:
    """For each memory those before it in its session, the nearest first, and those after it; all of them meet the conditions."""
    sides = [
        f"(SELECT json_group_array(seq) FROM (SELECT seq FROM memory_words WHERE session = here.session AND session != 0 "
        f"AND (moment, place, seq) {sign} (here.moment, here.place, here.seq) "
        f"ORDER BY moment {order}, place {order}, seq {order} LIMIT {AROUND}))"
        for sign, order in (("<", "DESC"), (">", "ASC"))
    ]
    rows: list[Any] = connection.execute(
        f"SELECT here.seq, {sides[0]}, {sides[1]} FROM json_each(?) AS given CROSS JOIN memory_words AS here ON here.seq = given.value "
        "WHERE here.session != 0",
        (orjson.dumps(list(seqs)).decode(),),
    ).fetchall()
    found: dict[int, tuple[list[int], list[int]]] = {
        here: (orjson.loads(before), orjson.loads(after)) for here, before, after in rows
    }
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
    given = orjson.dumps(list(seqs)).decode()
    rows: list[Any] = connection.execute(
        f"SELECT w.seq, substr(w.words, 1, {WORDS}), w.tags, w.length, w.session, w.moment, w.speaker, w.flags "
        "FROM json_each(?) AS given CROSS JOIN memory_words AS w ON w.seq = given.value WHERE w.owner = ?",
        (given, scope.owner),
    ).fetchall()
    importance: dict[int, float] = {}
    if scope.important:
        listed: list[Any] = connection.execute(
            "SELECT m.seq, m.importance FROM json_each(?) AS given CROSS JOIN memory AS m ON m.seq = given.value WHERE m.importance IS NOT NULL",
            (given,),
        ).fetchall()
        importance = dict(listed)
    found = []
    for seq, words, tags, length, session, moment, speaker, flags in rows:
        fade = 1.0
        if half_life is not None:
            fade = max(0.3, 0.5 ** max(0.0, (now - datetime.fromtimestamp(moment, UTC)) / half_life))
        found.append(
            Candidate(
                seq=seq,
                words=words,
                tags=tags,
                length=length,
                session=session,
                moment=moment,
                speaker=speaker,
                asks=bool(flags & ASKS),
                has_time=bool(flags & HAS_TIME),
                has_number=bool(flags & HAS_NUMBER),
                importance=importance.get(seq),
                similarity=similar.get(seq),
                fade=fade,
            )
        )
    return found
