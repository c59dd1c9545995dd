"""From text to the words that the index holds. Pure.

A word of the index is folded (no case, no accents, compatibility forms as one) and stemmed. Scripts that are written without spaces give one word a character, so that any part of a sentence can be found as a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

from uait.services.memory.stemming import stem

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ASCII_WORD = re.compile("[A-Za-z0-9]+(?:'[A-Za-z0-9]+)?")
"""The same for texts that have no others, in two thirds of the time."""

_UNSPACED_SIGNS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED = re.compile(f"[{_UNSPACED_SIGNS}]")
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean: written without spaces between words, or with endings stuck to them."""

_NUMBER = re.compile(r"(?<=\d)[.,](?=\d{3}\b)")

LONGEST_WORD = 64
"""Characters of one word that are looked at: what is longer is data, of which the beginning says enough."""

REMEMBERED = 50_000
"""Words of which it is remembered what they are in the index."""

PHRASE = 8
"""Most characters without spaces that are looked for as they follow each other. FTS5 compares every place in a memory with the whole phrase, and no cancellation reaches it there."""

COMMON = frozenset(
    # Words that questions are made of. In a memory they mean little, in a question nothing.
    [
        "a",
        "about",
        "again",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "anyone",
        "anything",
        "are",
        "aren",
        "as",
        "at",
        "be",
        "been",
        "being",
        "both",
        "but",
        "by",
        "can",
        "could",
        "d",
        "did",
        "didn",
        "do",
        "does",
        "doesn",
        "doing",
        "don",
        "during",
        "each",
        "ever",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "hasn",
        "have",
        "haven",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "isn",
        "it",
        "its",
        "just",
        "kind",
        "let",
        "like",
        "ll",
        "m",
        "many",
        "may",
        "me",
        "mean",
        "mention",
        "might",
        "mine",
        "more",
        "most",
        "much",
        "must",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "ours",
        "out",
        "over",
        "own",
        "please",
        "re",
        "recall",
        "remember",
        "s",
        "said",
        "same",
        "say",
        "shall",
        "she",
        "should",
        "so",
        "some",
        "someone",
        "something",
        "such",
        "t",
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
        "thing",
        "this",
        "those",
        "through",
        "to",
        "too",
        "told",
        "under",
        "until",
        "up",
        "us",
        "ve",
        "very",
        "was",
        "wasn",
        "way",
        "we",
        "were",
        "weren",
        "what",
        "whatever",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "yes",
        "yet",
        "you",
        "your",
        "yours",
        "know",
        "both",
        "one",
        "does",
        "doing",
        "get",
        "got",
        "go",
    ]
)


@lru_cache(maxsize=100_000)
def fold(word: str) -> str:
    """One word in small letters, without accents, as compatibility forms are written plainly: "Ünïcode" and "unicode" are one."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(sign for sign in plain if not unicodedata.combining(sign)).casefold()


def _index_words(word: str) -> tuple[str, ...]:
    """What one word of a text is in the index: mostly one stem, the signs of a script without spaces each by itself."""
    if word.isascii() and "'" not in word:
        return (stem(word.lower()[:LONGEST_WORD]),)
    # Korean would come apart into letters if it were folded.
    if not _UNSPACED.search(word):
        return tuple(stem(part[:LONGEST_WORD]) for part in _PLAIN.findall(without_ending(fold(word))))
    folded = word
    found: list[str] = []
    for part in _UNSPACED.sub(r" \g<0> ", folded).split():
        found += [part] if _UNSPACED.match(part) else [stem(each[:LONGEST_WORD]) for each in _PLAIN.findall(fold(part))]
    return tuple(found)


_PLAIN = re.compile(r"[^\W_]+")


def without_ending(word: str) -> str:
    """A folded word without what an apostrophe cuts off: "ann's" is of ann."""
    return word.replace("’", "'").partition("'")[0] if "'" in word or "’" in word else word


def raw_words(text: str) -> list[str]:
    """The words of a text as written, in order."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


class _Indexed(dict[str, str]):
    """What words are in the index, spaces between them. A plain dictionary's look-up takes a third of an `lru_cache`'s time, and a text has many words."""

    def __missing__(self, word: str) -> str:
        found = " ".join(_index_words(word))
        if len(word) <= LONGEST_WORD:
            if len(self) >= REMEMBERED:
                self.clear()
            self[word] = found
        return found


_indexed = _Indexed()


def index_words(text: str) -> list[str]:
    """The words of a text as they stand in the index, in order, repeated as they are."""
    if "," in text or "." in text:
        text = _NUMBER.sub("", text)
    return " ".join(map(_indexed.__getitem__, raw_words(text))).split()


_TIME_WORDS = frozenset(
    index_words(
        "yesterday today tonight tomorrow ago last next past recently since earlier later soon morning afternoon evening night weekend week month year day hour "
        "spring summer autumn fall winter january february march april june july august september october november december "
        "monday tuesday wednesday thursday friday saturday sunday"
    )
)
_NUMBER_WORDS = frozenset(
    index_words(
        "two three four five six seven eight nine ten eleven twelve dozen fifteen twenty thirty forty fifty sixty hundred thousand million once twice several couple few half"
    )
)


def has_time(words: list[str]) -> bool:
    """Whether a text tells when something was, or will be."""
    return not _TIME_WORDS.isdisjoint(words) or any(map(_is_time, words))


def has_number(words: list[str]) -> bool:
    """Whether a text tells how many, or how much."""
    return not _NUMBER_WORDS.isdisjoint(words) or any(map(_is_number, words))


@lru_cache(maxsize=20_000)
def _is_time(word: str) -> bool:
    return word[0].isdigit() and (
        word.endswith(("st", "nd", "rd", "th", "am", "pm")) or (len(word) == 4 and word[:2] in ("19", "20"))
    )


@lru_cache(maxsize=20_000)
def _is_number(word: str) -> bool:
    return word[0].isdigit()


@lru_cache(maxsize=4096)
def name_words(name: str) -> tuple[str, ...]:
    """The index words of something short that comes again and again."""
    return tuple(index_words(name))


def is_common(word: str) -> bool:
    """Whether a folded word says nothing about what a question is about."""
    return word in COMMON


def phrases(word: str) -> list[tuple[str, ...]]:
    """One written word as what is looked for: a tuple of index words that follow each other, long runs of signs in parts."""
    parts = tuple(_indexed[word].split())
    return [parts[start : start + PHRASE] for start in range(0, len(parts), PHRASE)]


def telling(text: str, most: int = 64) -> list[str]:
    """The written words of a question that say what it is about, each once; all of them where there are no others."""
    found = list(dict.fromkeys(word for word in raw_words(_NUMBER.sub("", text))))
    picked = [word for word in found if not is_common(without_ending(fold(word)))]
    return (picked or found)[:most]


def fingerprint(words: list[str]) -> bytes:
    """The same for texts that differ in case, accents, punctuation, inflection, the order of words and words that say nothing."""
    said = set(words)
    kept = sorted(said - COMMON) or sorted(said)
    return blake2b(" ".join(kept).encode(), digest_size=12).digest()


def resemblance(one: frozenset[str], other: frozenset[str]) -> float:
    """How alike two sets of words are: what they share of what they have together (Jaccard)."""
    together = len(one | other)
    return len(one & other) / together if together else 1.0
