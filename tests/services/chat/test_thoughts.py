"""What Anthropic's dialect says of earlier turns and others have no place for: that a tool failed, and the model's signed thoughts."""

from __future__ import annotations

from typing import Any

import pytest
from mock_upstream import KINDS

SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "signed"}
UNSIGNED = {"type": "thinking", "thinking": "Well.", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": "secret"}
CALL = {"type": "tool_use", "id": "c1", "name": "now", "input": {}}
BODY: dict[str, Any] = {
    "max_tokens": 9,
    "messages": [
        {"role": "user", "content": "What time?"},
        {"role": "assistant", "content": [SIGNED, UNSIGNED, REDACTED, CALL]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "no clock", "is_error": True}],
        },
    ],
}


async def asked(run_chat: Any, upstream: Any, kind: str, **more: Any) -> tuple[Any, dict[str, Any]]:
    """The answer, and what the model server was asked."""
    async with run_chat(providers={"mock": upstream.provider(kind)}, **more) as chat:
        model = "r" if more else "mock/tokens"
        response = await chat.client.post("/v1/messages", json={**BODY, "model": model, "stream": bool(more)})
        assert response.status_code == 200, response.text
        trace = (await chat.client.get(f"/v1/route/traces/{response.headers['x-route-trace']}")).json()
        assert (
            trace["attempts"][0]["left_out"]
            == response.headers.get("x-route-left-out", "").split(", ")[: len(trace["attempts"][0]["left_out"])]
        )
    return response, next(seen.json() for seen in reversed(upstream.requests) if seen.method == "POST")


@pytest.mark.parametrize("kind", KINDS)
async def test_that_a_tool_failed_is_said_to_everybody(run_chat: Any, upstream: Any, kind: str) -> None:
    _, body = await asked(run_chat, upstream, kind)
    result: Any
    match kind:
        case "anthropic":
            result = body["messages"][-1]["content"][0]
            assert (result["content"], result["is_error"]) == ("no clock", True)
        case "gemini":
            result = body["contents"][-1]["parts"][0]["functionResponse"]
            assert result["response"] == {"error": "no clock"}
        case "responses":
            assert body["input"][-1]["output"] == "The tool failed: no clock"
        case _:
            assert body["messages"][-1]["content"] == "The tool failed: no clock"


@pytest.mark.parametrize("kind", KINDS)
async def test_thoughts_go_to_whom_can_read_them_and_it_is_said_where_they_do_not(
    run_chat: Any, upstream: Any, kind: str
) -> None:
    response, body = await asked(run_chat, upstream, kind)
    if kind == "anthropic":
        # The one without a signature is another model's, and would be refused.
        assert body["messages"][1]["content"] == [SIGNED, REDACTED, CALL]
    elif kind == "ollama":
        assert body["messages"][1]["thinking"] == "Hm.Well."
    else:
        assert "Hm." not in str(body)
    expected = None if kind in ("anthropic", "ollama") else "thinking"
    assert response.headers.get("x-route-left-out") == expected


async def test_signed_thoughts_are_kept_where_the_request_is_said_in_other_words(run_chat: Any, upstream: Any) -> None:
    """With `continuation` nobody's own words are handed on."""
    routes = {"r": {"models": ["mock/tokens"], "continuation": True}}
    _, body = await asked(run_chat, upstream, "anthropic", routes=routes)
    assert body["messages"][1]["content"] == [SIGNED, REDACTED, CALL]
    result = body["messages"][2]["content"][0]
    assert (result["content"], result["is_error"]) == ([{"type": "text", "text": "no clock"}], True)


async def test_a_conversation_without_such_thoughts_passes_untouched(run_chat: Any, upstream: Any) -> None:
    async with run_chat(providers={"mock": upstream.provider("anthropic")}) as chat:
        messages = [BODY["messages"][0], {"role": "assistant", "content": [SIGNED, CALL]}, BODY["messages"][2]]
        await chat.client.post("/v1/messages", json={**BODY, "messages": messages, "model": "mock/tokens"})
    assert upstream.requests[-1].json()["messages"] == messages
