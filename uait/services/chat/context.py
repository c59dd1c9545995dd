"""What a model is given around the user's message."""

from __future__ import annotations

from typing import Any

import orjson

from uait.llm.messages import GenerateRequest, Message, Role, message
from uait.services.chat.model import ChatRequest, ContextMessage
from uait.services.chat.store import Turn

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def read_context(context: str | dict[str, Any] | list[ContextMessage] | None) -> tuple[Message, ...]:
    """The `context` of a request as messages: a list of messages as they are, anything else as one system message."""
    if not context:
        return ()
    if isinstance(context, list):
        return tuple(message(each.role, each.content) for each in context)
    text = context if isinstance(context, str) else orjson.dumps(context, option=orjson.OPT_INDENT_2).decode()
    return (message("system", f"Context of this conversation:\n{text}"),)


def build_question(request: ChatRequest, turn: Turn, memories: tuple[str, ...]) -> GenerateRequest:
    """Everything that a provider is asked with: instructions, context, what was said before, the user's message."""
    system = (message("system", turn.system),) if turn.system else ()
    history = tuple(message(_ROLES[role], content) for role, content in turn.history)
    return GenerateRequest(
        model=request.model or "auto",
        messages=(*system, *read_context(request.context), *history, message("user", request.message)),
        memories=memories,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop),
    )
