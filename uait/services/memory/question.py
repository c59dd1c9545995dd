"""From what a user asks to what is looked for. Pure.

What the user writes is text, never query syntax: only its words are taken.
"""

from __future__ import annotations

import re
from datetime import datetime

import attrs

from uait.services.memory.concepts import related
from uait.services.memory.times import Span, spans_of
from uait.services.memory.words import COMMON, fold, index_words, phrases, telling, without_ending

TERMS = 64
"""Most words of a query that are looked for."""

WIDENED = 96
"""Most words that it is widened to by concepts."""

_WHEN = re.compile(
    r"\b(?:when|what (?:date|day|month|year|time)|which (?:date|day|month|year)|how long ago|since when|how recently)\b",
    re.I,
)
_COUNT = re.compile(
    r"\b(?:how (?:many|much|old|long|often|far|tall|big|fast)|what (?:number|age|price|amount))\b", re.I
)
_NAME = re.compile(r"\b[A-Z][\w'’-]+")


_WEAK = frozenset(
    index_words(
        "find feel think want like use try happen start take make see come look seem become keep put give show ask need talk thing way day time "
        "year describe consider decide plan receive new recent recently current currently first last next type kind name"
    )
)
"""Words that many questions have, and few answers. Numbers and names of things stay as they are."""


@attrs.frozen
class Variant:
    """One way in which a term may stand in a memory.

    Attributes:
        words: index words that follow each other.
        weight: how much it counts beside the term itself, which has 1.
        prefix: the last word may go on.
        related: it is another word than the question has.
    """

    words: tuple[str, ...]
    weight: float = 1.0
    prefix: bool = False
    related: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.words)


@attrs.frozen
class Term:
    """One telling word of the question, with the variants that may stand for it, itself first."""

    variants: tuple[Variant, ...]

    @property
    def text(self) -> str:
        return self.variants[0].text


@attrs.frozen(kw_only=True)
class Question:
    """What a query looks for.

    Attributes:
        terms: its telling words, in order.
        names: its folded words that are written as names are: with a capital letter, not at the beginning of it all.
        spans: the times that it speaks of.
        wants_time, wants_number: what the answer must have.
    """

    text: str
    terms: tuple[Term, ...]
    names: frozenset[str] = frozenset()
    spans: tuple[Span, ...] = ()
    wants_time: bool = False
    wants_number: bool = False


def read_question(
    text: str, now: datetime, *, concept: float = 0.0, synonym: float = 0.0, weak: float = 1.0
) -> Question:
    """Take a query apart.

    Args:
        now: what "last May" is counted from.
        concept, synonym, weak: see `ranking.Weights`; without `concept` the query is not widened.
    """
    terms: dict[str, Term] = {}
    room = WIDENED
    written = telling(text)
    for word in written:
        for words in phrases(word):
            own = Variant(words, weak if len(words) == 1 and words[0] in _WEAK else 1.0)
            if own.text in terms or len(terms) >= TERMS or not own.text:
                continue
            others: list[Variant] = []
            if concept and len(words) == 1 and room > 0:
                others = [
                    Variant((each,), synonym if names else concept, related=True) for each, names in related(words[0])
                ][:room]
                room -= len(others)
            terms[own.text] = Term((own, *others))
    names = frozenset(name for match in _NAME.finditer(text) if (name := without_ending(fold(match[0]))) not in COMMON)
    return Question(
        text=text,
        terms=tuple(terms.values()),
        names=names,
        spans=tuple(spans_of(text, now)),
        wants_time=_WHEN.search(text) is not None,
        wants_number=_COUNT.search(text) is not None,
    )
