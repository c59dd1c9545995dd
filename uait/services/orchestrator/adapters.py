"""How a service is asked, and how its answer is put into words: for the built-in ones here, for all others by convention. Pure.

**The convention, for authors of services.** A service that declares intents (`@service(intents=...)`, or `ctx.add_intent`) can be chosen, and is then sent

    POST /orchestrate
    {"userRequest": "count the words of this", "context": {...}, "priority": null}

with the user's identity, the request's id and the time that remains, as every call between services has. Whatever JSON it answers becomes its result; where that
is an object, its `response`, `answer`, `text`, `summary`, `message` or `result`, the first that is a text, is what the synthesis says. A service without this
path (404, 405) can be chosen all the same: it is asked `GET /`, and its result is marked as `described`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from uait.services.orchestrator.model import Task


@attrs.frozen
class Ask:
    """One request to a service.

    Attributes:
        described: it only asks what the service is.
        names_something: it names something that the service may not have. A 404 then says that, and nothing about the path.
    """

    method: str
    path: str
    json: Any = None
    described: bool = False
    names_something: bool = False


@attrs.frozen
class Adapter:
    """How to ask a service, what to try where it has no such path, and what its answer says in words."""

    ask: Callable[[Task], Ask]
    tell: Callable[[Any], str]

    def asks(self, task: Task) -> Sequence[Ask]:
        ask = self.ask(task)
        return (ask,) if ask.names_something else (ask, Ask("GET", "/", described=True))


def adapter(name: str) -> Adapter:
    """The adapter of the service `name`."""
    return _BUILT_IN.get(name, _CONVENTION)


def _ask_chat(task: Task) -> Ask:
    own = {key: task.context[key] for key in ("conversation_id", "model") if isinstance(task.context.get(key), str)}
    return Ask("POST", "/chat", {"message": task.text, **own}, names_something=bool(own))


def _tell_chat(result: Any) -> str:
    return str(result["response"])


_TOLD = re.compile(
    r"\s*(?:please,?\s+)?(?:remember|note|don['’]t\s+forget)(?:\s+that\b|\s*:)\s*(?P<content>\S.*)", re.I | re.S
)
"""A request that tells something; every other one that memory is chosen for asks for something."""


def _ask_memory(task: Task) -> Ask:
    told = None if task.text.rstrip().endswith("?") else _TOLD.match(task.text)
    if told is not None:
        return Ask("POST", "/memory", {"content": told["content"].strip()})
    return Ask("POST", "/memory/search", {"query": task.text, "limit": 5})


def _tell_memory(result: Any) -> str:
    if "memories" not in result:
        return f"Remembered: {_short(str(result['content']), 200)}"
    found = [str(memory["content"]) for memory in result["memories"]]
    if not found:
        return "No memory fits."
    return f"{_count(len(found), 'memory', 'memories')}: {'; '.join(_short(content, 200) for content in found)}"


def _tell_hub(result: Any) -> str:
    return f"{_count(result['clients'], 'client')} in {_count(result['rooms'], 'room')}."


def _tell_discovery(result: Any) -> str:
    services: Mapping[str, Any] = result["services"]
    troubled = [
        f"{name} is {worst}"
        for name, instances in services.items()
        if not any(instance["health"] == "passing" for instance in instances)
        for worst in [max((instance["health"] for instance in instances), key=("warning", "critical").index)]
    ]
    return f"{_count(len(services), 'service')}: {'; '.join(troubled) if troubled else 'all passing'}."


_TEXTS = ("response", "answer", "text", "summary", "message", "result")


def _tell_anything(result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, Mapping):
        for key in _TEXTS:
            if isinstance(result.get(key), str) and result[key].strip():
                return str(result[key])
    return _short(orjson.dumps(result).decode(), 500)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


_BUILT_IN = {
    "chat": Adapter(_ask_chat, _tell_chat),
    "memory": Adapter(_ask_memory, _tell_memory),
    "hub": Adapter(lambda task: Ask("GET", "/stats"), _tell_hub),
    "discovery": Adapter(lambda task: Ask("GET", "/services"), _tell_discovery),
}

_CONVENTION = Adapter(
    lambda task: Ask(
        "POST",
        "/orchestrate",
        {"userRequest": task.text, "context": dict(task.context), "priority": task.priority},
    ),
    _tell_anything,
)
