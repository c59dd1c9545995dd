"""How good a memory is for a question. Pure; all weights are in `WEIGHTS`, and `tests/benchmarks/memory_recall.py` measures what a change of them does.

A memory is scored as one field of BM25 (S. Robertson, H. Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009) made of its own words and, counting less, those of its neighbours in the same session: in a
dialogue, what a turn is about often stands in the turn before. On top of that come who speaks, when, what kind of answer is wanted, and what its owner says of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import attrs

from uait.services.memory.question import Question, Variant


@attrs.frozen(kw_only=True)
class Weights:
    """What counts how much.

    Attributes:
        k1, b: BM25's: how fast repetition stops to count, how much length does.
        before, after: what the words of the neighbours count beside a memory's own, by distance from 1.
        overlap: what of that counts for words which the memory has itself.
        asked: the same for the turn before where it is a question, which this one then answers.
        tags: what tags and names count beside the text.
        concept: what a word of the same concept counts beside the word itself; `synonym` what another name of the concept does.
        weak: what verbs count that many questions have.
        prefix: the same for a word that only begins as the one that nowhere stands.
        phrase: for two words that follow each other in both, as a part of what they count.
        session: of what the session as a whole has of the question.
        speaker: for memories of somebody whom the question names, as a part of the score.
        own_name: what the name of a speaker counts as a word, because everybody else says it.
        when: for memories from the time that the question speaks of, as a part of the best score.
        late: days after such a time in which people still tell of it.
        wants: for memories that have a time, or a number, where the question wants one.
        question: what a memory that is a question itself loses.
        vector: of the similarity of vectors, as a part of the best score.
        importance, recency: as a part of the score, for the most important, and the newest.
        diversity: what a memory loses that says the same as a better one.
    """

    k1: float = 1.2
    b: float = 0.4
    before: tuple[float, ...] = (0.4, 0.3, 0.15)
    after: tuple[float, ...] = (0.25, 0.2)
    overlap: float = 0.7
    asked: float = 0.8
    tags: float = 0.5
    concept: float = 0.3
    synonym: float = 0.6
    weak: float = 0.3
    prefix: float = 0.5
    phrase: float = 0.25
    session: float = 0.15
    speaker: float = 0.3
    own_name: float = 0.3
    when: float = 0.5
    late: float = 21.0
    wants: float = 0.2
    question: float = 0.5
    vector: float = 0.8
    importance: float = 0.3
    recency: float = 0.02
    diversity: float = 0.3


WEIGHTS = Weights()

CLOSELY = 120
"""How many of the best by words and neighbours are looked at for everything else."""


@attrs.define(kw_only=True, eq=False)  # not frozen only because hundreds are made for each search
class Candidate:
    """A memory as ranking sees it.

    Attributes:
        words: its index words, a space between them; `tags` those of its tags and speakers; `speaker` those of who says it.
        session: which it belongs to, 0 for none; `moment` when it was, in Unix seconds.
        asks, has_time, has_number: what kind of sentence it is.
        importance: from 0 to 1, as its owner says.
        similarity: of its vector with the question's, where there are such.
        fade: what its age leaves of it, 1 where nothing fades.
    """

    seq: int
    words: str
    tags: str = ""
    length: int = 0
    session: int = 0
    moment: int = 0
    speaker: str = ""
    asks: bool = False
    has_time: bool = False
    has_number: bool = False
    importance: float | None = None
    similarity: float | None = None
    fade: float = 1.0


@attrs.frozen
class Collection:
    """What must be known of all of the user's memories: how many, how many words each has on average, in how many a variant's words stand."""

    memories: int
    average: float
    found: Mapping[str, int]

    def weight(self, variant: Variant) -> float:
        """How much a variant tells: the rarer, the more. Never nothing: a word that stands everywhere still breaks a tie."""
        count = self.found.get(variant.text, 0)
        return variant.weight * math.log(1 + (self.memories - count + 0.5) / (count + 0.5))


@attrs.define(eq=False)
class Scored:
    """A memory with its score and what that is made of."""

    candidate: Candidate
    score: float
    signals: dict[str, float]


def rank(
    question: Question,
    candidates: Sequence[Candidate],
    neighbours: Mapping[int, Sequence[Sequence[int]]],
    collection: Collection,
    weights: Weights = WEIGHTS,
) -> list[Scored]:
    """All candidates, the best first; equally good ones the newest first.

    Args:
        neighbours: for a candidate's `seq` those before it, the nearest first, and those after it. They are candidates themselves, or left out.
    """
    by_seq = {candidate.seq: candidate for candidate in candidates}
    speakers = {name for speaker in {candidate.speaker for candidate in candidates} for name in speaker.split()}
    weighed = [
        [
            (v, (weights.own_name if term.text in speakers and v.weight == 1 else 1.0) * collection.weight(v))
            for v in term.variants
        ]
        for term in question.terms
    ]
    table = _Table(weighed, weights)
    own: dict[int, Values] = {}
    for candidate in candidates:
        if values := table.values(candidate, collection.average):
            own[candidate.seq] = values
    sessions = _sessions(by_seq, own)
    words = {seq: sum(values.values()) for seq, values in own.items()}
    context = {
        seq: _around(own.get(seq, _NOTHING), neighbours[seq], own, words, by_seq, weights) if seq in neighbours else 0.0
        for seq in by_seq
    }
    for seq, candidate in by_seq.items():
        if candidate.session in sessions:
            context[seq] += weights.session * sessions[candidate.session]
    base = {seq: words.get(seq, 0.0) + around for seq, around in context.items()}
    best = max(base.values(), default=0.0) or 1.0
    newest = max(by_seq, default=0)
    in_order = sorted(candidates, key=lambda each: (base[each.seq], each.seq), reverse=True)
    # What only the other signals can lift must not be cut off before them.
    lifted = bool(question.spans) or any(
        each.similarity is not None or each.importance is not None for each in candidates
    )
    cut = len(in_order) if lifted else CLOSELY
    scorer = _Scorer(question, weighed, best, newest, weights)
    scored = [scorer.score(each, words.get(each.seq, 0.0), context[each.seq]) for each in in_order[:cut]]
    scored.sort(key=lambda each: (each.score, each.candidate.seq), reverse=True)
    return scored + [
        Scored(each, base[each.seq] * each.fade, {"words": words.get(each.seq, 0.0), "neighbours": context[each.seq]})
        for each in in_order[cut:]
        if base[each.seq] > 0
    ]


Weighed = Sequence[Sequence[tuple[Variant, float]]]
Values = dict[int, float]
"""What a memory has of each term of the question, by the term's number."""

_NOTHING: Values = {}


class _Table:
    """The variants of all terms, to be looked up by the words of a memory."""

    def __init__(self, weighed: Weighed, weights: Weights) -> None:
        self._weights = weights
        self._words: dict[str, list[tuple[int, float]]] = {}
        self._others: list[tuple[str, int, float]] = []
        for number, variants in enumerate(weighed):
            for variant, weight in variants:
                if variant.prefix or len(variant.words) > 1:
                    self._others.append((f" {variant.text}" if variant.prefix else f" {variant.text} ", number, weight))
                else:
                    self._words.setdefault(variant.text, []).append((number, weight))
        self._wanted = frozenset(self._words)

    def values(self, candidate: Candidate, average: float) -> Values:
        """BM25, term by term; of a term's variants the best counts."""
        weights = self._weights
        words, tags = candidate.words.split(), candidate.tags.split()
        # Most memories have few of the words, or none: only those are looked at.
        had = (
            self._wanted.intersection(words)
            if self._wanted.isdisjoint(tags)
            else self._wanted.intersection(words + tags)
        )
        if not had and not self._others:
            return _NOTHING
        k = weights.k1 * (1 - weights.b + weights.b * candidate.length / (average or 1.0))
        found: Values = {}
        for word in had:
            count = words.count(word) + (weights.tags * tags.count(word) if tags else 0)
            often = count * (weights.k1 + 1) / (count + k)
            for number, weight in self._words[word]:
                if weight * often > found.get(number, 0.0):
                    found[number] = weight * often
        for text, number, weight in self._others:
            count = f" {candidate.words} ".count(text) + weights.tags * f" {candidate.tags} ".count(text)
            often = count * (weights.k1 + 1) / (count + k)
            if weight * often > found.get(number, 0.0):
                found[number] = weight * often
        return found


def _around(
    mine: Values,
    sides: Sequence[Sequence[int]],
    own: Mapping[int, Values],
    words: Mapping[int, float],
    by_seq: Mapping[int, Candidate],
    weights: Weights,
) -> float:
    """What the neighbours of a memory have of the question; what it has itself counts less."""
    total = 0.0
    before, after = sides
    for others, parts in ((before, weights.before), (after, weights.after)):
        for other, part in zip(others, parts, strict=False):
            worth = words.get(other, 0.0)
            if not worth:
                continue
            if others is before and other == before[0] and by_seq[other].asks:
                part = weights.asked
            if mine:
                theirs = own[other]
                for number in mine:
                    if number in theirs:
                        worth -= (1 - weights.overlap) * theirs[number]
            total += part * worth
    return total


def _sessions(by_seq: Mapping[int, Candidate], own: Mapping[int, Values]) -> dict[int, float]:
    """What each session as a whole has of the question."""
    had: dict[int, Values] = {}
    for seq, values in own.items():
        session = by_seq[seq].session
        if session:
            best = had.setdefault(session, {})
            for number, value in values.items():
                if value > best.get(number, 0.0):
                    best[number] = value
    return {session: sum(best.values()) for session, best in had.items()}


class _Scorer:
    """Looks at a memory closely."""

    def __init__(self, question: Question, weighed: Weighed, best: float, newest: int, weights: Weights) -> None:
        self._question = question
        self._weights = weights
        self._best = best
        self._newest = newest
        self._phrases = [
            (f" {one[0][0].text} {two[0][0].text} ", min(one[0][1], two[0][1])) for one, two in pairwise(weighed)
        ]

    def score(self, candidate: Candidate, words: float, context: float) -> Scored:
        question, weights, best = self._question, self._weights, self._best
        signals = {"words": words, "neighbours": context}
        base = words + context
        text = f" {candidate.words} "
        phrase = sum(worth for pair, worth in self._phrases if pair in text)
        if phrase:
            signals["phrase"] = weights.phrase * phrase
        if question.names and not question.names.isdisjoint(candidate.speaker.split()):
            signals["speaker"] = weights.speaker * base
        if question.spans:
            late = timedelta(days=weights.late)
            moment = datetime.fromtimestamp(candidate.moment, UTC)
            nearness = max(span.nearness(moment, late) for span in question.spans)
            if nearness:
                signals["when"] = weights.when * best * nearness
        if (question.wants_time and candidate.has_time) or (question.wants_number and candidate.has_number):
            signals["wanted"] = weights.wants * base
        if candidate.asks:
            signals["question"] = -weights.question * base
        if candidate.similarity is not None:
            signals["vector"] = weights.vector * best * max(0.0, candidate.similarity)
        if candidate.importance is not None:
            signals["importance"] = weights.importance * base * (candidate.importance - 0.5)
        if self._newest:
            signals["recency"] = weights.recency * base * candidate.seq / self._newest
        total = sum(signals.values())
        if candidate.fade != 1.0:
            signals["fade"] = total * (candidate.fade - 1)
            total *= candidate.fade
        return Scored(candidate, total, signals)


def diversify(scored: Sequence[Scored], most: int, weights: Weights = WEIGHTS) -> list[Scored]:
    """The first `most` so that they do not say the same again and again (J. Carbonell, J. Goldstein, The Use of MMR, 1998), then the others as they were."""
    if most < 2 or not weights.diversity:
        return list(scored)
    pool = list(scored[: 2 * most])
    sets = {each.candidate.seq: frozenset(each.candidate.words.split()) for each in pool}
    worst = {each.candidate.seq: 0.0 for each in pool}
    chosen: list[Scored] = []
    while pool and len(chosen) < most:
        index = max(
            range(len(pool)),
            key=lambda at: (pool[at].score * (1 - weights.diversity * worst[pool[at].candidate.seq]), -at),
        )
        taken = pool.pop(index)
        chosen.append(taken)
        mine = sets[taken.candidate.seq]
        for other in pool:
            theirs = sets[other.candidate.seq]
            together = len(mine | theirs)
            alike = len(mine & theirs) / together if together else 1.0
            # Two sentences about one thing share words; only what is nearly the same is held against it.
            worst[other.candidate.seq] = max(worst[other.candidate.seq], max(0.0, alike - 0.5) * 2)
    return [*chosen, *pool, *scored[2 * most :]]
