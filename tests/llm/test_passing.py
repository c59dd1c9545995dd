"""What a client gets of a provider that speaks its dialect is the same whether an event was taken apart or known by what it has in common with the last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.llm.dialects.openai_upstream import AnswerReader
from uait.llm.messages import Chunk, GenerateRequest, Original
from uait.llm.passing import LESSONS, Passed, PassedChatReader, pass_chat
from uait.llm.sse import ServerSentEvent

TEXTS = st.text(max_size=6) | st.sampled_from(['"', '"content":"x"', '"model":"m"', "\\", "m", "a\nb", "👋", "\u2028"])
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": TEXTS | st.none() | st.just([{"type": "text", "text": "listed"}]),
        "reasoning_content": TEXTS,
        "tool_calls": st.just([{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]),
    },
)
EVENTS = st.fixed_dictionaries(
    {"choices": st.tuples(st.fixed_dictionaries({"index": st.just(0), "delta": DELTAS | st.just({"content": "a"})}))},
    optional={
        "model": st.sampled_from(["m", "other", "content"]),
        "first": st.sampled_from([{"content": "a"}, {"content": ["a"]}, "content", {"model": "m"}]),
        "usage": st.just(None) | st.just({"prompt_tokens": 1, "completion_tokens": 2}),
        "obfuscation": st.sampled_from(["", "x", "yy"]),
        "last": st.sampled_from([{"content": "a"}, "model"]),
    },
)


def reader(*, lessons: int = LESSONS, shown: str = "alias") -> PassedChatReader:
    original = Original(dialect="openai-chat", body={"model": "mock/m", "messages": []}, shown=shown)
    made = pass_chat("mock", original, GenerateRequest(model="m", messages=(), original=original))[1]
    made._lessons = lessons
    return made


def written(payload: Mapping[str, Any], *, reverse: bool = False, **how: Any) -> ServerSentEvent:
    if reverse:
        payload = dict(reversed(payload.items()))
    return ServerSentEvent(json.dumps(payload, **how).encode())


def token(text: str, **how: Any) -> ServerSentEvent:
    return written({"model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}, **how)


@given(
    st.lists(EVENTS, max_size=8),
    st.sampled_from([{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"reverse": True}, {"indent": 1}]),
    st.sampled_from(["", "m", "alias", 'odd"\\ name']),
)
def test_what_is_known_is_read_as_what_is_taken_apart(
    payloads: list[Mapping[str, Any]], how: dict[str, Any], shown: str
) -> None:
    quick, thorough = reader(shown=shown), reader(lessons=0, shown=shown)
    for payload in payloads:
        event = written(payload, **how)
        assert quick.event(event) == thorough.event(event)


@pytest.fixture
def taken_apart(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The events that were."""
    seen: list[bytes] = []
    read = AnswerReader.event

    def event(self: AnswerReader, event: ServerSentEvent) -> Chunk | None:
        seen.append(event.data)
        return read(self, event)

    monkeypatch.setattr(AnswerReader, "event", event)
    return seen


@pytest.mark.parametrize("how", [{}, {"reverse": True}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_tokens_that_differ_in_their_text_only_are_taken_apart_once(
    taken_apart: list[bytes], how: dict[str, Any]
) -> None:
    passing = reader()
    for text in ("Hello", " world", 'a "quoted" \\ one', "👋"):
        chunk = passing.event(token(text, **how))
        assert chunk is not None
        sent = token(text, **how).data.replace(b'"m"', b'"alias"')
        assert (chunk.text, chunk.raw) == (text, b"data: " + sent + b"\n\n")
    assert len(taken_apart) == 1


@pytest.mark.parametrize(
    "payloads",
    [
        [{"id": n, "choices": [{"delta": {"content": "x"}}]} for n in (1, 2)],
        [{"choices": [{"delta": {"content": "x"}}], "id": n} for n in (1, 2)],
        [{"beside": {"content": text}, "choices": [{"delta": {"content": "a"}}]} for text in "ab"],
        [{"beside": {"content": text}, "choices": [{"delta": {"refusal": "no"}}]} for text in "ab"],
        [{"beside": {"content": text}, "choices": [{"delta": {"reasoning": "a"}}]} for text in "ab"],
    ],
    ids=["before", "behind", "twice", "refusal", "reasoning"],
)
def test_tokens_that_differ_elsewhere_are_taken_apart(taken_apart: list[bytes], payloads: list[Any]) -> None:
    passing = reader()
    for payload in payloads:
        assert passing.event(written(payload)) == reader(lessons=0).event(written(payload))
    assert len(taken_apart) == 2 * len(payloads)


@pytest.mark.parametrize(
    "data",
    [
        token("").data,
        token("x").data.replace(b'"x"', b"null"),
        token("x").data.replace(b'"x"', b"5"),
        token("x").data.replace(b'"x"', b'"x", "refusal": "no"'),
        token("x").data.replace(b'"x"', b'"\xff"'),
        token("x").data.replace(b'"x"', b'"x'),
        token("x").data[:-1],
        b"[DONE]",
    ],
    ids=["empty", "null", "number", "more", "utf8", "string", "object", "done"],
)
def test_what_only_looks_like_a_token_is_taken_apart(taken_apart: list[bytes], data: bytes) -> None:
    passing, event = reader(), ServerSentEvent(data)
    passing.event(token("known"))
    taken_apart.clear()
    try:
        passing.event(event)
    except Exception:
        with pytest.raises(Exception, match="mock"):
            reader(lessons=0).event(event)
    assert taken_apart[0] == data


def test_a_named_event_is_taken_apart(taken_apart: list[bytes]) -> None:
    passing = reader()
    passing.event(token("known"))
    with pytest.raises(Exception, match="mock"):
        passing.event(ServerSentEvent(token("x").data, "error"))


def test_tokens_without_anything_in_common_are_not_looked_at_for_ever() -> None:
    passing = reader()
    for n in range(LESSONS + 3):
        passing.event(written({"choices": [{"delta": {"content": "x"}}], "obfuscation": str(n)}))
    assert passing._lessons == 0


ITS_NAME = {"model": "mine"}


@pytest.mark.parametrize("answering", [True, False], ids=["begun", "first"])
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"content_block": {"type": "tool_use", "input": ITS_NAME}}, None),
        ({"item": {"results": [{"attributes": ITS_NAME}]}}, None),
        ({"item": {"results": [{"attributes": {"model": "m"}}]}}, None),
        ({"response": {"metadata": ITS_NAME, "model": "m"}}, {"response": {"metadata": ITS_NAME, "model": "alias"}}),
        ({"response": {"model": "m", "tools": [ITS_NAME]}}, {"response": {"model": "alias", "tools": [ITS_NAME]}}),
        ({"message": {"usage": {}, "model": "m"}}, {"message": {"usage": {}, "model": "alias"}}),
        ({"content": [{"input": ITS_NAME}], "model": "m"}, {"content": [{"input": ITS_NAME}], "model": "alias"}),
        ({"content": [{"input": ITS_NAME}], "model": "alias"}, None),
        ([{"content": [{"input": ITS_NAME}], "model": "m"}], [{"content": [{"input": ITS_NAME}], "model": "alias"}]),
    ],
)
def test_only_the_answer_s_own_model_is_renamed(payload: Any, expected: Any, answering: bool) -> None:
    passed = Passed(Original(dialect="anthropic", body={}, shown="alias"), "mock", "m")
    if answering:
        passed.renamed(b'{"message":{"model":"m"}}')
    assert json.loads(passed.renamed(json.dumps(payload).encode())) == (payload if expected is None else expected)


def test_what_is_wrapped_in_a_list_is_given_as_what_is_in_it() -> None:
    said = {"model": "m", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    original = Original(dialect="openai-chat", body={"model": "mock/m", "messages": []}, shown="alias")
    made = pass_chat("mock", original, GenerateRequest(model="m", messages=(), original=original, stream=False))[1]
    chunk = made.whole(json.dumps([said]).encode())
    assert chunk.body is not None
    assert json.loads(chunk.body) == {**said, "model": "alias"}
    event = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    ended = reader().event(ServerSentEvent(json.dumps([event]).encode(), ""))
    assert ended is not None
    assert ended.raw is not None
    assert json.loads(ended.raw.removeprefix(b"data: ")) == event
