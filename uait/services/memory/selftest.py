"""How well a user's own questions find what they should: recall on questions whose answers the caller knows."""

from __future__ import annotations

import time

import attrs
from attrs import validators

from uait.services.memory.model import QUERY_CHARACTERS, MemorySearch
from uait.services.memory.search import Finder


@attrs.frozen(kw_only=True)
class LabelledQuestion:
    """A question, and the ids of the memories that answer it."""

    query: str = attrs.field(validator=validators.and_(validators.min_len(1), validators.max_len(QUERY_CHARACTERS)))
    relevant: list[str] = attrs.field(validator=validators.and_(validators.min_len(1), validators.max_len(100)))


@attrs.frozen(kw_only=True)
class SelfTest:
    """Questions to be tried: how much of what is relevant is among the first `k`?"""

    questions: list[LabelledQuestion] = attrs.field(
        validator=validators.and_(validators.min_len(1), validators.max_len(500))
    )
    k: int = attrs.field(default=10, validator=validators.and_(validators.ge(1), validators.le(200)))


@attrs.frozen(kw_only=True)
class TriedQuestion:
    """What became of one question. `ranks` tells where each relevant memory stood, from 1; those beyond `k` are left out."""

    query: str
    recall: float
    ranks: dict[str, int]


@attrs.frozen(kw_only=True)
class SelfTestReport:
    """What share of the relevant memories was found among the first `k`, on average over the questions; and of how many questions all of them.

    Attributes:
        reciprocal_rank: 1 over the rank of the first relevant one, on average.
        milliseconds: of one search, on average.
    """

    k: int
    recall: float
    complete: float
    reciprocal_rank: float
    milliseconds: float
    questions: list[TriedQuestion]


async def try_questions(finder: Finder, user_id: str, test: SelfTest) -> SelfTestReport:
    """Ask all questions, one after the other."""
    tried: list[TriedQuestion] = []
    began = time.perf_counter()
    for question in test.questions:
        found = await finder.search(user_id, MemorySearch(query=question.query, limit=test.k))
        places = {memory.id: place for place, memory in enumerate(found.memories, 1)}
        relevant = set(question.relevant)
        ranks = {each: places[each] for each in relevant if each in places}
        tried.append(TriedQuestion(query=question.query, recall=len(ranks) / len(relevant), ranks=ranks))
    took = time.perf_counter() - began
    count = len(tried)
    return SelfTestReport(
        k=test.k,
        recall=sum(each.recall for each in tried) / count,
        complete=sum(each.recall == 1 for each in tried) / count,
        reciprocal_rank=sum(1 / min(each.ranks.values()) for each in tried if each.ranks) / count,
        milliseconds=took * 1000 / count,
        questions=tried,
    )
