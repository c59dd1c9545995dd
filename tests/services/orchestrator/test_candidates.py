from __future__ import annotations

import pytest

from uait.kernel.status import ServiceStatus, State
from uait.services.orchestrator.candidates import candidates_of


def status(name, title=None, intents=(), state=State.READY):
    return ServiceStatus(name=name, title=title or name, state=state, since=0, intents=intents)


def test_the_hosts_services_are_candidates_whatever_their_state_but_not_the_orchestrator():
    found = candidates_of(
        [status("chat", "chat-service", ("talk",)), status("wordcount", state=State.FAILED), status("orchestrator")],
        {},
        "orchestrator",
    )

    assert [(one.name, one.title, one.intents) for one in found] == [
        ("chat", "chat-service", ("talk",)),
        ("wordcount", "wordcount", ()),
    ]


def test_registered_services_are_candidates_by_the_intents_in_their_meta():
    registered = {
        "weather": [{"meta": {"intents": ["will it rain"]}}, {"meta": {"intents": ["will it rain", "forecast"]}}],
        "chat-service": [{"meta": {"intents": ["ours already"]}}],
        "orchestration-service": [{}],
    }

    found = candidates_of(
        [status("chat", "chat-service"), status("orchestrator", "orchestration-service")], registered, "orchestrator"
    )

    assert [(one.name, one.intents) for one in found] == [("chat", ()), ("weather", ("will it rain", "forecast"))]


@pytest.mark.parametrize(
    "registered",
    [
        None,
        [],
        {"x": None},
        {"x": [None]},
        {"x": [{"meta": None}]},
        {"x": [{"meta": {"intents": "a"}}]},
        {"x": [{"meta": {"intents": [5, None]}}]},
    ],
)
def test_what_discovery_says_need_not_be_well_formed(registered):
    found = candidates_of([], registered, "orchestrator")

    assert all(one.intents == () for one in found)
