from __future__ import annotations

import pytest

from uait.services.discovery.model import DiscoverySettings, Registration, instance_of
from uait.services.discovery.registry import Registry


class World:
    """A registry and the time that it is told."""

    def __init__(self, **settings):
        self.settings = DiscoverySettings(**settings)
        self.registry = Registry(self.settings)
        self.now = 1000.0

    def register(self, name="greeter", **fields):
        given = Registration(name=name, **{"id": "one", "address": "10.0.0.1", "port": 80} | fields)
        known = self.registry.get(given.id)
        return self.registry.put(instance_of(given, known), self.now, health_given=given.health is not None)

    def pass_by(self, seconds):
        self.now += seconds
        return self.registry.expire(self.now)

    def health(self, instance_id="one"):
        return self.registry.get(instance_id).health


@pytest.fixture
def make_world():
    return World
