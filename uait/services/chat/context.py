"""What a model is given around the user's message."""

from __future__ import annotations

from typing import Any

import orjson

from uait.errors import Problem, ValidationFailed
from uait.llm.catalog import Target
from uait.llm.messages import GenerateRequest, Message, Role, message
from uait.services.chat.model import ChatRequest
from uait.services.chat.store import Turn

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def read_context(context: Any) -> tuple[Message, ...]:
    """The `context` of a request as messages: a list of `{role, content}` as they are, anything else as one system message.

    Raises:
        ValidationFailed: an item of a list is no message.
    """
    if context is None or context in ("", {}, []):
        return ()
    if not isinstance(context, list):
        text = context if isinstance(context, str) else orjson.dumps(context, option=orjson.OPT_INDENT_2).decode()
        return (message("system", f"Context of this conversation:\n{text}"),)
    problems = []
    messages = []
    for n, item in enumerate(context):
        match item:
            case {"role": "system" | "user" | "assistant" as role, "content": str(content)}:
                messages.append(message(_ROLES[role], content))
            case _:
                where = f"$.context[{n}]"
                problems.append(Problem(where, "must be a message: {role: system, user or assistant; content: text}"))
    if problems:
        raise ValidationFailed(problems)
    return tuple(messages)


def build_question(
    request: ChatRequest, target: Target, turn: Turn, context: tuple[Message, ...], memories: tuple[str, ...]
) -> GenerateRequest:
    """Everything that a provider is asked with: instructions, context, what was said before, the user's message."""
    system = (message("system", turn.system),) if turn.system else ()
    history = tuple(message(_ROLES[role], content) for role, content in turn.history)
    return GenerateRequest(
        model=target.model,
        messages=(*system, *context, *history, message("user", request.message)),
        memories=memories,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        stop=tuple(request.stop),
    )
