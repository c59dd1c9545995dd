"""The provider that is always there: it looks up what was said before, and says that this is all it does.

No model, no network, no chance: the same question in the same conversation gets the same answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from uait.errors import BadRequest
from uait.llm.messages import (
    CHARACTERS_A_TOKEN,
    Chunk,
    Collected,
    FinishReason,
    GenerateRequest,
    Usage,
    estimate_usage,
)
from uait.llm.provider import Capability, Embeddings, Model, check_capabilities

MODEL = "retrieval"

INTRODUCTION = "I am uait's offline assistant. I am not a language model: I only look up what was said before."
CONNECT = (
    "For real answers connect a model: start Ollama, LM Studio or another local server, or set OPENAI_API_KEY or "
    "ANTHROPIC_API_KEY and start uait again."
)

FOUND = 4
"""How many finds are quoted at most."""

QUOTED = 300
"""Characters of a find that are quoted at most."""

_WORD = re.compile(r"\w+", re.UNICODE)
_PIECE = re.compile(r"\s*\S+|\s+$", re.UNICODE)
_COMMON_WORDS = """
a about am an and any are as at be been but by can could did do does for from had has have hello hey hi how i if in is it its just know
me my of on or our please remember so some tell that the their them there they this to was we were what when where which who why will
with would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@attrs.frozen
class Find:
    """Something said before that has to do with the question."""

    source: str
    text: str
    score: float


class OfflineProvider:
    """Answers from the conversation and the user's memories by plain retrieval (words in common, rare ones counting more)."""

    name = "offline"
    capabilities = frozenset({Capability.CHAT, Capability.STREAMING})

    async def models(self) -> Sequence[Model]:
        await trio.lowlevel.checkpoint()
        return (Model(MODEL, owned_by="uait"),)

    @asynccontextmanager
    async def stream(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        await trio.lowlevel.checkpoint()
        yield _Pieces(request)

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        raise BadRequest("The offline provider cannot make embeddings.", code="UNSUPPORTED_BY_PROVIDER")

    async def aclose(self) -> None:
        """Nothing is open."""
        await trio.lowlevel.checkpoint()


class _Pieces:
    """The answer word by word."""

    def __init__(self, request: GenerateRequest) -> None:
        text, self._finish = _shorten(answer(request), request.max_tokens, request.stop)
        whole = Collected()
        whole.add(Chunk(text))
        self._usage: Usage = estimate_usage(request, whole)
        pieces = _PIECE.findall(text) if request.stream else [text]
        self._chunks = iter(
            [*(Chunk(piece) for piece in pieces), Chunk(finish=self._finish, usage=self._usage)],
        )

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        await trio.lowlevel.checkpoint()
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def answer(request: GenerateRequest) -> str:
    """The whole answer: what it is, what it found, and how to get a real one."""
    question = next((turn.text for turn in reversed(request.messages) if turn.role == "user"), "")
    finds = retrieve(question, request)
    if finds:
        lines = "\n".join(f"- {find.source}: “{_quote(find.text)}”" for find in finds)
        return f"{INTRODUCTION} This is what I found for your message:\n\n{lines}\n\n{CONNECT}"
    return f"{INTRODUCTION} I found nothing about your message in this conversation or in your memories. {CONNECT}"


def retrieve(question: str, request: GenerateRequest) -> list[Find]:
    """What has words in common with the question, best first: earlier turns of the user and others, memories, system texts.

    Each shared word counts the more, the fewer texts have it; long texts count less (the idea of BM25 without its tuning).
    """
    candidates = [*_earlier(request), *(("your memories", memory) for memory in request.memories)]
    seen: set[str] = set()
    texts: list[tuple[str, str, Counter[str]]] = []
    for source, text in candidates:
        if text and text not in seen:
            seen.add(text)
            texts.append((source, text, Counter(_words(text))))
    wanted = set(_words(question))
    spread = Counter(word for _, _, words in texts for word in words)
    finds = []
    for source, text, words in texts:
        shared = wanted & words.keys()
        if shared:
            score = sum(math.log(1 + len(texts) / spread[word]) for word in shared) / math.log(8 + len(words))
            finds.append(Find(source, text, score))
    finds.sort(key=lambda find: -find.score)
    return finds[:FOUND]


def _earlier(request: GenerateRequest) -> Iterable[tuple[str, str]]:
    """What was said before the last question, newest first. Our own answers are quotations already."""
    turns = list(request.messages)
    while turns and turns[-1].role != "user":
        turns.pop()
    for turn in reversed(turns[:-1]):
        if turn.role == "user":
            yield "you said", turn.text
        elif turn.role == "assistant" and not turn.text.startswith(INTRODUCTION):
            yield "an earlier answer", turn.text
        elif turn.role in ("system", "tool"):
            yield "the conversation's context", turn.text


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _COMMON]


def _stem(word: str) -> str:
    """Cut the commonest endings, so that `cats` finds `cat`."""
    for ending in ("ing", "ed", "s"):
        if len(word) > len(ending) + 2 and word.endswith(ending):
            return word[: -len(ending)]
    return word


def _quote(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"


def _shorten(text: str, max_tokens: int | None, stop: Sequence[str]) -> tuple[str, FinishReason]:
    ends = [end for end in (text.find(word) for word in stop if word) if end >= 0]
    if ends:
        text = text[: min(ends)]
    if max_tokens is not None and len(text) > max_tokens * CHARACTERS_A_TOKEN:
        return text[: max_tokens * CHARACTERS_A_TOKEN], "length"
    return text, "stop"
