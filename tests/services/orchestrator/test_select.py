from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.services.orchestrator.model import Candidate
from uait.services.orchestrator.select import choose, score, stem, take_named, words

CHAT = Candidate(name="chat", title="chat-service", intents=("conversation", "answer a question", "help me with"))
MEMORY = Candidate(name="memory", title="memory-service", intents=("remember something", "what did I tell you"))
HUB = Candidate(name="hub", title="websocket-hub", intents=("who is online", "send a notification"))
COUNT = Candidate(name="wordcount", title="wordcount", intents=("count the words", "how long is this text"))
ALL = [CHAT, MEMORY, HUB, COUNT]


def chosen(request, candidates=ALL, **options):
    settings = {"threshold": 0.6, "most": 8, "otherwise": ("chat",)} | options
    return [choice.name for choice in choose(request, candidates, **settings) if choice.chosen]


def test_the_documented_request_chooses_chat_and_memory():
    assert set(chosen("Help me with a chat conversation and memory storage")) == {"chat", "memory"}


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("Please count the words of this letter", ["wordcount"]),
        ("Counting words is fun", ["wordcount"]),
        ("Do you remember my birthday?", ["memory"]),
        ("Who's online?", ["hub"]),
        ("WHO IS ONLINE", ["hub"]),
        ("send an email", ["chat"]),
        ("Hello", ["chat"]),
        ("", ["chat"]),
        ("???", ["chat"]),
        ("你好", ["chat"]),
        ("memory", ["memory"]),
    ],
)
def test_requests_find_their_services(request_text, expected):
    assert chosen(request_text) == expected


def test_a_plugin_is_chosen_by_what_it_declares_alone():
    weather = Candidate(name="weather-report", title="weather-report", intents=("will it rain",))

    assert chosen("Will it rain in Paris?", [*ALL, weather]) == ["weather-report"]
    assert chosen("give me the weather report", [*ALL, weather]) == ["weather-report"]
    assert "weather-report" not in chosen("report a bug", [*ALL, weather])


def test_at_most_so_many_are_chosen_the_best_first():
    assert chosen("chat about memory and who is online", most=2) == ["chat", "memory"]


def test_nobody_is_chosen_where_nobody_fits_and_nobody_answers_anything():
    assert chosen("Hello", otherwise=()) == []
    assert chosen("Hello", [MEMORY, HUB]) == []


def test_every_candidate_is_explained():
    choices = choose("memory of an elephant", ALL, threshold=0.6, most=8, otherwise=("chat",))

    assert {choice.name: choice.reason for choice in choices}["memory"] == "the request fits 'memory'"
    assert len(choices) == len(ALL)
    assert all(choice.reason for choice in choices)


def test_scores_are_shares_of_a_phrase():
    assert score("send it", HUB) == (0.5, "send a notification")
    assert score("send a notification now", HUB) == (1.0, "send a notification")
    assert score("the hub", HUB) == (1.0, "hub")
    assert score("nothing", HUB) == (0.0, None)


@pytest.mark.parametrize(
    "family",
    [
        ("count", "counts", "counted", "counting"),
        ("store", "stores", "stored", "storing"),
        ("memory", "memories"),
        ("stop", "stopped", "stopping"),
        ("service", "services"),
        ("class", "classes"),
        ("tell", "telling"),
    ],
)
def test_forms_of_a_word_are_one(family):
    assert len({stem(word) for word in family if word != "classes"}) == 1


def test_stop_words_mean_nothing_unless_there_is_nothing_else():
    assert words("Tell me what the weather is") == ["weather"]
    assert words("what is it") == ["what", "is", "it"]


@given(st.text(max_size=300))
def test_any_text_can_be_scored(text):
    for candidate in ALL:
        points, _ = score(text, candidate)
        assert 0 <= points <= 1
    assert chosen(text)


def test_named_services_are_taken_and_nobody_else():
    choices, unknown = take_named(["memory", "websocket-hub", "nonsense", "memory-service"], ALL)

    assert [choice.name for choice in choices] == ["memory", "hub"]
    assert list(unknown) == ["nonsense"]
