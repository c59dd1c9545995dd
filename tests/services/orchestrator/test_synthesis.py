from __future__ import annotations

from uait.services.orchestrator.model import Outcome, Status
from uait.services.orchestrator.synthesis import synthesise

CHAT = Outcome(name="chat", status=Status.COMPLETED, result={"response": "Hi!"})
MEMORY = Outcome(name="memory", status=Status.COMPLETED, result={"memories": []})
HUNG = Outcome(name="hub", status=Status.TIMED_OUT, error="too late")
DESCRIBED = Outcome(name="plain", status=Status.DESCRIBED, result={"description": "Does things"}, error="note")


def test_one_answer_stands_for_itself():
    assert synthesise([CHAT]) == "Hi!"


def test_several_are_named():
    assert synthesise([CHAT, MEMORY, DESCRIBED]) == "chat: Hi!\nmemory: No memory fits.\nplain: Does things"


def test_who_did_not_answer_is_named_too():
    failed = Outcome(name="memory", status=Status.FAILED, error="x")
    skipped = Outcome(name="nonsense", status=Status.SKIPPED, error="x")

    assert synthesise([CHAT, HUNG, failed, skipped]) == (
        "chat: Hi!\nWithout an answer: hub (timed out), memory (failed), nonsense (skipped)."
    )


def test_from_nothing_comes_nothing():
    assert synthesise([]) == ""
    assert synthesise([HUNG]) == ""


def test_a_stand_in_with_answers_of_its_own_does_no_harm():
    odd = Outcome(name="chat", status=Status.COMPLETED, result=["not", "chat's"])

    assert synthesise([odd]) == "It answered."
    for services in ([], None, [{"name": "chat"}]):
        listed = Outcome(name="discovery", status=Status.COMPLETED, result={"services": services})
        assert synthesise([CHAT, listed]) == "chat: Hi!\ndiscovery: It answered."
    assert synthesise([Outcome(name="plain", status=Status.DESCRIBED, result=5, error="what it is")]) == "what it is"
