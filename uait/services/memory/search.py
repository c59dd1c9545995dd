"""From what a user asks for to the statements that find it. Pure.

What the user writes is text, never query syntax: only its words are taken, each in quotes.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from hashlib import sha256
from typing import Any

import attrs
import orjson

from uait.errors import NotFound
from uait.services.memory.model import MAX_OFFSET, Memory, MemoryQuery
from uait.storage import format_time
from uait.web import encode_cursor

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Scripts written without spaces between words, or with endings stuck to them: Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean."""

TERMS = 64
"""Most words of a query that are looked for."""

PHRASE = 8
"""Most characters without spaces that are looked for as they follow each other. FTS5 compares every place in a memory with the whole phrase, and no cancellation reaches it there."""

_COMMON = frozenset(
    # Words that questions are made of. In a memory they mean little, in a question nothing.
    [
        "a",
        "about",
        "all",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "being",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "for",
        "from",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "i'd",
        "i'll",
        "i'm",
        "i've",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "let",
        "like",
        "me",
        "mine",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "off",
        "on",
        "or",
        "our",
        "ours",
        "please",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "tell",
        "than",
        "that",
        "the",
        "their",
        "theirs",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "too",
        "us",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "yours",
        "d",
        "ll",
        "m",
        "re",
        "s",
        "t",
        "ve",
        "don",
        "didn",
        "doesn",
        "isn",
        "wasn",
        "aren",
        "weren",
        "remember",
        "recall",
        "know",
        "said",
        "say",
        "told",
    ]
)


def words(text: str) -> list[str]:
    """The words of `text` in small letters, each once, in order."""
    return list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))


def telling(text: str) -> list[str]:
    """The words of a question that say what it is about; all of them where there are no others."""
    found = words(text)
    return ([word for word in found if word not in _COMMON] or found)[:TERMS]


def spaced(text: str) -> str:
    """`text` as it is indexed: every character of a script without spaces is a word of its own, so that any part of a sentence can be found."""
    return _UNSPACED.sub(r" \g<0> ", text)


def owner(user_id: str) -> str:
    """The user as one word of the index, which no stemming changes and nobody's text contains by chance."""
    return f"u{sha256(user_id.encode()).hexdigest()[:32]}0"


def expressions(text: str, user_id: str) -> list[str]:
    """FTS5 expressions for a query, to be tried one after the other until one finds something: memories with any of its words, the more the better; then also words that only begin so.

    Empty where the text has no words at all.
    """
    terms = [f'"{phrase}"' for phrase in _phrases(telling(text))]
    if not terms:
        return []
    mine = f'owner : "{owner(user_id)}" AND {{content tags}} : '
    return [f"{mine}({' OR '.join(terms)})", f"{mine}({' OR '.join(f'{term} *' for term in terms)})"]


def _phrases(found: list[str]) -> list[str]:
    """The words as they stand in the index, long runs of characters without spaces in parts."""
    parts = [
        " ".join(signs[start : start + PHRASE])
        for signs in (spaced(word).split() for word in found)
        for start in range(0, len(signs), PHRASE)
    ]
    return list(dict.fromkeys(parts))[:TERMS]


@attrs.frozen
class Selection:
    """A way to find memories: `SELECT seq ... WHERE conditions ORDER BY order`, with the parameters in order.

    Attributes:
        ranked: the best first; such a list is paged by offset, because a rank is no fixed place. Otherwise the newest first, paged by the last one's place.
    """

    source: str
    conditions: tuple[str, ...]
    parameters: tuple[Any, ...]
    ranked: bool = False

    def count(self) -> tuple[str, tuple[Any, ...]]:
        """The statement that counts, and its parameters."""
        return f"SELECT count(*) FROM {self.source} WHERE {' AND '.join(self.conditions)}", self.parameters

    def page(self, query: MemoryQuery) -> tuple[str, tuple[Any, ...]]:
        """The statement that gives the `seq` of a page's memories, and of one more where there are more.

        Raises:
            NotFound: the cursor is none that such a list gave.
        """
        conditions, parameters, offset = self.conditions, self.parameters, query.offset
        match query.after():
            case None:
                pass
            case int(place) if self.ranked and 0 <= place <= MAX_OFFSET:
                offset = place
            case [str(created_at), str(memory_id)] if not self.ranked:
                conditions = (*conditions, "(m.created_at, m.id) < (?, ?)")
                parameters = (*parameters, created_at, memory_id)
                offset = 0
            case _:
                raise NotFound("This list has no page with this cursor; begin again without one.")
        order = "bm25(memory_text, 0, 1, 0.5), " if self.ranked else ""
        return (
            f"SELECT m.seq FROM {self.source} WHERE {' AND '.join(conditions)} "
            f"ORDER BY {order}m.created_at DESC, m.id DESC LIMIT ? OFFSET ?",
            (*parameters, query.limit + 1, offset),
        )

    def next_cursor(self, query: MemoryQuery, shown: list[Memory]) -> str:
        """What leads to the page after the one that shows `shown`."""
        if not self.ranked:
            return encode_cursor([shown[-1].created_at, shown[-1].id])
        place = query.after()
        return encode_cursor((place if isinstance(place, int) else query.offset) + len(shown))


def selections(user_id: str, query: MemoryQuery) -> list[Selection]:
    """How to find what fits `query`: ways to be tried one after the other until one finds something."""
    conditions = ["m.user_id = ?"]
    parameters: list[Any] = [user_id]
    if query.type is not None:
        conditions.append("m.type = ?")
        parameters.append(query.type)
    if query.tags:
        conditions.append("NOT EXISTS (SELECT value FROM json_each(?) EXCEPT SELECT value FROM json_each(m.tags))")
        parameters.append(orjson.dumps(query.tags).decode())
    if query.start_date is not None:
        conditions.append("m.created_at >= ?")
        parameters.append(format_time(_begin(query.start_date)))
    if query.end_date is not None:
        conditions.append("m.created_at <= ?")
        parameters.append(format_time(_end(query.end_date)))
    if not query.query.strip():
        return [Selection("memory AS m", tuple(conditions), tuple(parameters))]
    found = expressions(query.query, user_id)
    if not found:  # signs and pictures only: look for them as they are
        return [Selection("memory AS m", (*conditions, "instr(m.content, ?) > 0"), (*parameters, query.query.strip()))]
    return [
        Selection(
            "memory_text JOIN memory AS m ON m.seq = memory_text.rowid",
            ("memory_text MATCH ?", *conditions),
            (expression, *parameters),
            ranked=True,
        )
        for expression in found
    ]


def _begin(moment: datetime | date) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.min, UTC)


def _end(moment: datetime | date) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.max, UTC)
