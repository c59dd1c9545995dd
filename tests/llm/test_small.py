"""Small parts that providers are made of."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uait.errors import UpstreamError
from uait.llm import upstream
from uait.llm.dialects.anthropic_upstream import MessageReader, Thoughts
from uait.llm.dialects.gemini_upstream import ContentReader
from uait.llm.messages import Chunk, Collected
from uait.llm.ndjson import LineParser
from uait.llm.providers.ollama import ChatReader
from uait.llm.recall import Recall
from uait.llm.sse import EventTooLarge, ServerSentEvent


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b" ")), max_size=8), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"\n".join(lines)
    parser = LineParser()
    found = []
    while stream:
        at = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:at])
        stream = stream[at:]
    found += parser.end()
    assert [event.data for event in found] == [line.strip() for line in lines if line.strip()]


def test_a_line_that_is_too_long_is_refused() -> None:
    parser = LineParser(max_line_bytes=10)
    assert [event.data for event in parser.feed(b"x" * 30 + b"\n")] == [b"x" * 30], "it is here already"
    parser.feed(b"x" * 10)
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_the_oldest_are_forgotten_first() -> None:
    recall: Recall[str] = Recall(max_entries=2, max_size=100)
    for name in ("a", "b", "a", "c"):
        recall.put(name, name.upper(), 10)
    assert [recall.get(name) for name in "abc"] == ["A", None, "C"]
    recall.put("d", "D", 95)
    assert [recall.get(name) for name in "acd"] == [None, None, "D"]
    recall.put("e", "E", 101)
    assert [recall.get(name) for name in "de"] == ["D", None], "one that finds no room costs nobody else's"


LOGPROBS = {
    "content": [
        {
            "token": "Hé",
            "logprob": -0.5,
            "bytes": [72, 195, 169],
            "top_logprobs": [{"token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169]}],
        }
    ],
    "refusal": None,
}


def test_log_probabilities_have_one_form() -> None:
    token = {"token": "Hé", "logProbability": -0.5}
    result = {"chosenCandidates": [token], "topCandidates": [{"candidates": [token]}]}
    candidate = {"content": {"parts": [{"text": "Hé"}]}, "logprobsResult": result, "finishReason": "STOP"}
    gemini = ContentReader("g", Recall()).whole(orjson.dumps({"candidates": [candidate]}))
    line = {"message": {"content": "Hé"}, "done": True, "logprobs": LOGPROBS["content"]}
    ollama = ChatReader("o").event(ServerSentEvent(orjson.dumps(line)))
    assert ollama is not None
    assert gemini.logprobs == ollama.logprobs == LOGPROBS


@pytest.mark.parametrize("wrong", [7, "text", {"a": 1}, None])
def test_log_probabilities_of_all_tokens_come_together(wrong: object) -> None:
    answer = Collected()
    for token in ({"token": "H"}, {"token": "i"}):
        answer.add(Chunk(token["token"], logprobs={"content": [token], "refusal": None}))
    answer.add(Chunk(logprobs={"content": wrong, "refusal": wrong}))
    assert answer.logprobs == {"content": [{"token": "H"}, {"token": "i"}], "refusal": []}


@pytest.mark.parametrize(
    ("payload", "finish"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        ({"candidates": [{"finishReason": "IMAGE_SAFETY"}]}, "content_filter"),
        ({"candidates": [{"finishReason": "SOMETHING_NEW"}]}, "stop"),
    ],
)
def test_geminis_reasons(payload: object, finish: str) -> None:
    assert ContentReader("g", Recall()).whole(orjson.dumps(payload)).finish == finish


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_a_call_that_gemini_could_not_write_is_an_error(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        ContentReader("g", Recall()).whole(orjson.dumps({"candidates": [{"finishReason": reason}]}))


def test_google_says_400_to_a_wrong_key() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = {"code": 400, "message": "API key not valid: AIzaSecret", "status": "INVALID_ARGUMENT", "details": details}
    found = upstream.from_status("gemini", 400, orjson.dumps({"error": error}), {})
    assert (found.http_status, found.error_code) == (502, "PROVIDER_REFUSED_KEY")
    assert "AIza" not in found.text


def test_a_402_is_an_empty_account_unless_it_says_when() -> None:
    body = b'{"error": {"message": "in flight"}}'
    assert upstream.from_status("p", 402, body, {}).error_code == "INSUFFICIENT_QUOTA"
    assert upstream.from_status("p", 402, body, {"retry-after": "3"}).headers["Retry-After"] == "3"


@pytest.mark.parametrize("wrong", [None, 7, True, [], {}])
def test_thoughts_without_their_fields_are_read_all_the_same(wrong: object) -> None:
    recall: Recall[Thoughts] = Recall()
    reader = MessageReader("a", recall, None, streamed=True)
    block = {"type": "thinking", "thinking": wrong, "signature": wrong}
    call = {"type": "tool_use", "id": "c", "name": "t", "input": {}}
    for payload in (
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "signed"}},
        {"type": "content_block_start", "index": 1, "content_block": call},
    ):
        reader.event(ServerSentEvent(orjson.dumps(payload)))
    assert recall.get("c") == [{"type": "thinking", "thinking": "Hm", "signature": "signed"}]


@pytest.mark.parametrize("wrong", [7, True, [], {}, [[]]])
def test_what_gemini_sends_in_the_wrong_form_is_left_out(wrong: object) -> None:
    result = {"chosenCandidates": [{"token": "H"}], "topCandidates": [{"candidates": wrong}]}
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "logprobsResult": result}
    reader = ContentReader("g", Recall())
    chunk = reader.event(ServerSentEvent(orjson.dumps({"candidates": [{**candidate, "finishReason": wrong}]})))
    assert chunk is not None
    assert (chunk.text, reader.finish) == ("Hi", None)
    assert chunk.logprobs["content"][0]["top_logprobs"] == []


def test_an_errors_code_is_no_longer_than_its_message() -> None:
    error = upstream.from_frame("p", {"code": "9" * 5000, "type": "x" * 5000})
    assert error.http_status == 502
    assert isinstance(error.details, dict)
    assert [len(error.details[name]) for name in ("code", "type")] == [upstream.MESSAGE_CHARACTERS] * 2
