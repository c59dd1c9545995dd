from __future__ import annotations

import pytest

from uait.services.orchestrator.adapters import Ask, adapter
from uait.services.orchestrator.model import Task

TASK = Task(text="count this", context={"conversation_id": "c1", "model": 5, "more": 1}, priority="high")


def first(name):
    return adapter(name).asks(TASK)[0]


def test_built_in_services_are_asked_in_their_own_way():
    assert first("chat") == Ask(
        "POST", "/chat", {"message": "count this", "conversation_id": "c1"}, names_something=True
    )
    assert adapter("chat").asks(Task(text="count this")) == (
        Ask("POST", "/chat", {"message": "count this"}),
        Ask("GET", "/", described=True),
    )
    assert first("memory") == Ask("POST", "/memory/search", {"query": "count this", "limit": 5})
    assert first("hub") == Ask("GET", "/stats")
    assert first("discovery") == Ask("GET", "/services")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("Remember that I like tea", "I like tea"),
        ("please remember: the key is under the mat\n", "the key is under the mat"),
        ("Don't forget that it's Tuesday", "it's Tuesday"),
    ],
)
def test_memory_stores_what_it_is_told(text, content):
    assert adapter("memory").asks(Task(text=text))[0] == Ask("POST", "/memory", {"content": content})


@pytest.mark.parametrize(
    "text", ["Do you remember that I like tea?", "Remember that time?", "Remember what I like", "remember that", "tea"]
)
def test_memory_searches_for_what_it_is_asked(text):
    assert adapter("memory").asks(Task(text=text))[0] == Ask("POST", "/memory/search", {"query": text, "limit": 5})


def test_any_other_is_asked_by_convention_and_else_what_it_is():
    assert adapter("wordcount").asks(TASK) == (
        Ask(
            "POST",
            "/orchestrate",
            {
                "userRequest": "count this",
                "context": {"conversation_id": "c1", "model": 5, "more": 1},
                "priority": "high",
            },
        ),
        Ask("GET", "/", described=True),
    )


@pytest.mark.parametrize(
    ("name", "result", "text"),
    [
        ("chat", {"response": "Hi!"}, "Hi!"),
        ("memory", {"memories": []}, "No memory fits."),
        ("memory", {"id": "m", "content": "likes\n tea"}, "Remembered: likes tea"),
        ("memory", {"memories": [{"content": "likes\n tea"}]}, "1 memory: likes tea"),
        ("memory", {"memories": [{"content": "a"}, {"content": "b" * 300}]}, "2 memories: a; " + "b" * 199 + "…"),
        ("hub", {"clients": 1, "rooms": 2}, "1 client in 2 rooms."),
        ("discovery", {"services": {"a": [{"health": "passing"}]}}, "1 service: all passing."),
        (
            "discovery",
            {
                "services": {
                    "a": [{"health": "critical"}, {"health": "passing"}],
                    "b": [{"health": "warning"}, {"health": "critical"}],
                }
            },
            "2 services: b is critical.",
        ),
        ("wordcount", {"words": 2}, '{"words":2}'),
        ("wordcount", {"answer": "two words", "words": 2}, "two words"),
        ("wordcount", {"response": " ", "text": "two"}, "two"),
        ("wordcount", "two", "two"),
        ("wordcount", None, "null"),
        ("wordcount", ["x" * 600], '["' + "x" * 497 + "…"),
    ],
)
def test_an_answer_in_words(name, result, text):
    assert adapter(name).tell(result) == text
