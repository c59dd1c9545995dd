"""An answer as it comes ends when it is complete, whatever its server goes on to send."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import trio

from uait.llm.dialects.openai_upstream import AnswerReader
from uait.llm.sse import SSEParser
from uait.llm.stream import LONGEST_TAIL, AnswerStream
from uait.llm.upstream import Timeouts


class Source:
    """A body whose pieces come a second apart."""

    ready = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> bytes:
        await trio.sleep(1)
        return next(self._pieces)


async def test_comments_after_the_end_are_not_listened_to_for_ever(autojump_clock: object) -> None:
    def pieces() -> Iterator[bytes]:
        choice = {"delta": {"content": "Hello"}, "finish_reason": "stop"}
        yield b"data: %b\n\n" % orjson.dumps({"choices": [choice]})
        while True:
            yield b": keep-alive\n\n"

    times = Timeouts()
    answer = AnswerStream(
        AnswerReader("p"), SSEParser(), "p", Source(pieces()), times, first=times.first_token, total=times.total
    )
    assert [(chunk.text, chunk.finish) async for chunk in answer] == [("Hello", "stop")]
    assert trio.current_time() <= 1 + LONGEST_TAIL
