from __future__ import annotations

import attrs
import pytest

from uait.kernel.status import ServiceStatus, State
from uait.services.discovery.model import Health, Origin
from uait.services.discovery.own import own_instances

CHAT = ServiceStatus(
    name="chat",
    title="chat-service",
    state=State.READY,
    since=0,
    port=8016,
    addresses=("http://127.0.0.1:8016", "http://[::1]:8016"),
    intents=("a chat",),
)


def test_a_service_is_an_instance_under_its_title():
    [instance] = own_instances([CHAT], lambda _: None, "localhost")

    assert (instance.id, instance.name, instance.address, instance.port) == (
        "chat-service",
        "chat-service",
        "127.0.0.1",
        8016,
    )
    assert (instance.health, instance.origin, instance.note) == (Health.PASSING, Origin.HOST, "ready")
    assert instance.meta["service"] == "chat"
    assert instance.meta["intents"] == ["a chat"]
    assert instance.meta["addresses"] == list(CHAT.addresses)


@pytest.mark.parametrize(
    ("state", "health"),
    [
        ("ready", "passing"),
        ("pending", "warning"),
        ("starting", "warning"),
        ("backoff", "warning"),
        ("draining", "warning"),
        ("failed", "critical"),
        ("stopped", "critical"),
    ],
)
def test_every_state_has_a_health_word(state, health):
    [instance] = own_instances([attrs.evolve(CHAT, state=State(state))], lambda _: None, "localhost")

    assert instance.health == health


def test_one_that_is_down_keeps_the_address_it_had():
    [before] = own_instances([CHAT], lambda _: None, "localhost")
    down = attrs.evolve(CHAT, state=State.BACKOFF, addresses=())

    [after] = own_instances([down], {"chat-service": before}.get, "localhost")

    assert (after.address, after.port, after.meta) == (before.address, before.port, before.meta)


def test_one_that_was_never_up_has_the_hosts():
    [instance] = own_instances([attrs.evolve(CHAT, addresses=(), state=State.FAILED)], lambda _: None, "localhost")

    assert (instance.address, instance.port) == ("localhost", 8016)
