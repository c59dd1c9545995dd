from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.services.gateway.routes import Target, find_target

TITLES = {"weather-service": "weather"}


def find(path: str) -> Target | None:
    return find_target(path.encode(), lambda name: TITLES.get(name, name))


@pytest.mark.parametrize("prefix", ["/api/v1", "/api"])
@pytest.mark.parametrize(
    ("path", "service", "own_path"),
    [
        ("/chat", "chat", "/chat"),
        ("/chat/", "chat", "/chat"),
        ("/chat/models", "chat", "/models"),
        ("/chat/ws/chat", "chat", "/ws/chat"),
        ("/conversations", "chat", "/conversations"),
        ("/conversations/7/messages", "chat", "/conversations/7/messages"),
        ("/memory", "memory", "/memory"),
        ("/memory/search", "memory", "/memory/search"),
        ("/context/7", "memory", "/context/7"),
        ("/orchestrate", "orchestrator", "/orchestrate"),
        ("/services", "discovery", "/services"),
        ("/services/chat", "discovery", "/services/chat"),
        ("/service/chat", "discovery", "/service/chat"),
        ("/discovery/register", "discovery", "/register"),
        ("/discovery/api/v1/discovery/register", "discovery", "/api/v1/discovery/register"),
        ("/ws", "hub", "/ws"),
        ("/hub/rooms", "hub", "/rooms"),
        ("/weather", "weather", "/"),
        ("/weather/", "weather", "/"),
        ("/weather/a/b/", "weather", "/a/b/"),
        ("/weather-service/a", "weather", "/a"),
        ("/anything.else_1/a", "anything.else_1", "/a"),
        ("/weather//a", "weather", "//a"),
    ],
)
def test_each_path_has_its_service(prefix, path, service, own_path):
    assert find(prefix + path) == Target(service, own_path.encode())


def test_what_is_quoted_stays_quoted_on_its_way():
    target = find("/api/v1/weather/a%2Fb/%C3%BC%20")
    assert target == Target("weather", b"/a%2Fb/%C3%BC%20")
    assert target.path == "/a/b/ü "


def test_a_quoted_name_is_that_name():
    assert find("/api/v1/m%65mory/7") == Target("memory", b"/memory/7")


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/v1", "/api/v1/", "/api/v1//x", "/api/v1/-x", "/api/v1/a%2Fb", "/api/v1/%00", "/api/v1/%FF"],
)
def test_what_can_be_no_service_has_no_target(path):
    assert find(path) is None


PIECES = st.sampled_from(
    [b"/", b"//", b"api", b"v1", b"chat", b"memory", b"%2F", b"%2e%2e", b"..", b"%", b"%zz", b"%ff", b"a", b"?"]
)


@given(st.lists(st.one_of(PIECES, st.binary(max_size=4)), max_size=12).map(b"".join))
def test_any_path_has_a_target_that_makes_sense_or_none(path):
    target = find_target(b"/api" + path, lambda name: name)
    if target is not None:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", target.service)
        assert target.raw_path.startswith(b"/")
        assert target.path.startswith("/")
