"""The request's body and query in a handler."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import BadRequest, ValidationFailed
from uait.settings import Limits
from uait.web import body, json_body, query, to_json
from uait.web.parse import MAX_PARAMETERS, from_query


@attrs.frozen
class Message:
    text: str
    user_request: str = attrs.field(default="", alias="userRequest")
    extra: Any = None


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app(limits=Limits(body_bytes=1000))

    @app.post("/echo")
    async def echo() -> Any:
        return await body(Message)

    @app.post("/raw")
    async def raw() -> Any:
        return {"got": await json_body(), "again": await json_body()}

    @app.get("/find")
    async def find() -> Any:
        return query(Search)

    return app


class Order(Enum):
    NEW = "new"
    OLD = "old"


@attrs.frozen
class Search:
    query: str = ""
    limit: int = attrs.field(default=10, validator=attrs.validators.le(100))
    ratio: float = 0.5
    watch: bool = False
    order: Order | None = None
    size: Literal[1, 2, "many"] = 1
    since: datetime | None = None
    tags: list[str] = attrs.field(factory=list)
    numbers: tuple[int, ...] = ()


async def test_a_body_becomes_an_instance(app: Any, ask: Any) -> None:
    answer = await ask(app, "/echo", json={"text": "a\0", "userRequest": "b", "unknown": 1})
    assert (answer.status, answer.json) == (200, {"text": "a\0", "userRequest": "b", "extra": None})


async def test_a_body_can_be_read_twice(app: Any, ask: Any) -> None:
    answer = await ask(app, "/raw", json=[1])
    assert answer.json == {"got": [1], "again": [1]}


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=UTF-8", "application/ld+json", None])
async def test_json_media_types(app: Any, ask: Any, kind: str | None) -> None:
    answer = await ask(app, "/echo", body=b'{"text":"x"}', headers={"Content-Type": kind} if kind else {})
    assert answer.status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "json", ""]
)
async def test_other_media_types_are_refused(app: Any, ask: Any, kind: str) -> None:
    answer = await ask(app, "/echo", body=b'{"text":"x"}', headers={"Content-Type": kind})
    assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "INVALID_JSON"),
        (b"{", 400, "INVALID_JSON"),
        (b'{"text": NaN}', 400, "INVALID_JSON"),
        (b'{"text": "\\ud800"}', 400, "INVALID_JSON"),
        (b"\xff\xfe", 400, "INVALID_JSON"),
        (b'{"extra":' + b"[" * 400, 400, "INVALID_JSON"),
        (b"[]", 422, "VALIDATION_FAILED"),
        (b"null", 422, "VALIDATION_FAILED"),
        (b'{"text": 1}', 422, "VALIDATION_FAILED"),
        (b'{"text": "' + b"x" * 1000 + b'"}', 413, "PAYLOAD_TOO_LARGE"),
    ],
)
async def test_bad_bodies(app: Any, ask: Any, data: bytes, status: int, code: str) -> None:
    answer = await ask(app, "/echo", body=data, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error["request_id"] == answer.headers["x-request-id"]
    assert (await ask(app, "/echo", json={"text": "still there"})).status == 200


async def test_all_problems_are_listed(app: Any, ask: Any) -> None:
    answer = await ask(app, "/echo", json={"userRequest": 1})
    assert answer.error["details"] == [
        {"path": "$.text", "message": "is required"},
        {"path": "$.userRequest", "message": "must be a string"},
    ]


async def test_a_body_without_a_length_is_measured_as_it_comes(app: Any, connect: Any, announces: bool) -> None:
    async with connect(app, "/echo", method="POST", announces=announces) as connection:
        for _ in range(20):
            await connection.incoming.send({"type": "http.request", "body": b"x" * 100, "more_body": True})
    assert (connection.answer.status, connection.answer.error["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(app: Any, connect: Any, announces: bool) -> None:
    with trio.fail_after(5):
        async with connect(
            app, "/echo", method="POST", headers={"Content-Length": "1001"}, announces=announces
        ) as connection:
            pass
    assert (connection.answer.status, connection.answer.error["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_in_pieces(app: Any, connect: Any, announces: bool) -> None:
    async with connect(app, "/echo", method="POST", announces=announces) as connection:
        for piece in (b'{"te', b"", b'xt": "a', b'b"}'):
            await connection.incoming.send({"type": "http.request", "body": piece, "more_body": True})
        await connection.incoming.send({"type": "http.request", "body": b"", "more_body": False})
    assert connection.answer.json["text"] == "ab"


async def test_a_body_that_stops_coming_is_given_up(
    app: Any, connect: Any, announces: bool, autojump_clock: Any
) -> None:
    async with connect(app, "/echo", method="POST", announces=announces) as connection:
        await connection.incoming.send({"type": "http.request", "body": b"{", "more_body": True})
    assert (connection.answer.status, connection.answer.error["code"]) == (408, "REQUEST_TIMEOUT")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60) | JSON.map(to_json))
async def test_any_body_is_taken_or_refused(make_app: Any, ask: Any, data: bytes) -> None:
    app = make_app()

    @app.post("/echo")
    async def echo() -> Any:
        return await body(Message)

    answer = await ask(app, "/echo", body=data)
    assert answer.status in (200, 400, 422)
    assert answer.json.keys() == ({"text", "userRequest", "extra"} if answer.status == 200 else {"error"})


# Queries


async def test_a_query_becomes_an_instance(app: Any, ask: Any) -> None:
    answer = await ask(app, "/find?query=a%20b&limit=5&ratio=1e-1&watch&tags=x&tags=y,z&numbers=1,2&other=1")
    assert answer.json == {
        "query": "a b",
        "limit": 5,
        "ratio": 0.1,
        "watch": True,
        "order": None,
        "size": 1,
        "since": None,
        "tags": ["x", "y,z"],
        "numbers": [1, 2],
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Search()),
        ("query=&limit=&order=&tags=&since=&ratio=", Search()),
        ("query=1", Search(query="1")),
        ("watch=true", Search(watch=True)),
        ("watch=0", Search(watch=False)),
        ("watch=False", Search(watch=False)),
        ("order=old", Search(order=Order.OLD)),
        ("size=2", Search(size=2)),
        ("size=many", Search(size="many")),
        ("tags=a,,b", Search(tags=["a", "b"])),
        ("tags=a%2Cb", Search(tags=["a", "b"])),
        ("since=2026-01-01T02:00:00%2B02:00", Search(since=datetime(2026, 1, 1, tzinfo=UTC))),
        ("since=2026-01-01T02:00:00+02:00", Search(since=datetime(2026, 1, 1, tzinfo=UTC))),
        ("since=2026-01-01T00:00:00Z", Search(since=datetime(2026, 1, 1, tzinfo=UTC))),
        ("query=%00%F0%9F%98%80", Search(query="\0\U0001f600")),
    ],
)
def test_queries(text: str, expected: Search) -> None:
    assert from_query(text.encode(), Search) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("limit=a", "$.limit"),
        ("limit=1.0", "$.limit"),
        ("limit=101", "$.limit"),
        ("limit=%D9%A1", "$.limit"),
        ("limit=1&limit=2", "$.limit"),
        ("limit=99999999999999999999", "$.limit"),
        ("ratio=nan", "$.ratio"),
        ("ratio=inf", "$.ratio"),
        ("ratio=1e999", "$.ratio"),
        ("watch=maybe", "$.watch"),
        ("order=other", "$.order"),
        ("size=3", "$.size"),
        ("since=yesterday", "$.since"),
        ("numbers=1,x", "$.numbers[1]"),
        ("query=a&query=b", "$.query"),
    ],
)
def test_bad_queries(text: str, path: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        from_query(text.encode(), Search)
    assert [problem.where for problem in caught.value.problems] == [path]


def test_all_problems_of_a_query_come_at_once() -> None:
    with pytest.raises(ValidationFailed) as caught:
        from_query(b"limit=1&limit=2&ratio=x&size=3", Search)
    assert {problem.where for problem in caught.value.problems} == {"$.limit", "$.ratio", "$.size"}


@attrs.frozen
class Needed:
    FORBID_UNKNOWN_KEYS: ClassVar[bool] = True
    id: str


def test_required_and_unknown_parameters() -> None:
    with pytest.raises(ValidationFailed) as caught:
        from_query(b"other=1", Needed)
    assert {problem.where for problem in caught.value.problems} == {"$.id", "$.other"}


@pytest.mark.parametrize("text", [b"query=%ff", b"query=\xff", b"%ed%a0%80=1"])
def test_queries_are_utf8(text: bytes) -> None:
    with pytest.raises(BadRequest):
        from_query(text, Search)


def test_the_number_of_parameters_is_bounded() -> None:
    with pytest.raises(BadRequest):
        from_query(b"&".join([b"a=1"] * (MAX_PARAMETERS + 1)), Search)


@given(st.binary(max_size=80))
def test_any_query_is_taken_or_refused(text: bytes) -> None:
    with contextlib.suppress(BadRequest, ValidationFailed):
        assert isinstance(from_query(text, Search), Search)


@given(st.text().filter(lambda text: text.isprintable()), st.integers(-(2**40), 100), st.booleans())
def test_queries_come_back_as_they_were_meant(text: str, limit: int, watch: bool) -> None:
    encoded = urlencode({"query": text, "limit": limit, "watch": str(watch).lower()}, quote_via=quote)
    assert from_query(encoded.encode(), Search) == Search(query=text, limit=limit, watch=watch)


def test_a_long_number_that_is_none_is_refused_in_one_look() -> None:
    @attrs.frozen
    class Wanted:
        ratio: float

    # With a look back for every digit, this would take an hour.
    with pytest.raises(ValidationFailed):
        from_query(b"ratio=" + b"1" * 500_000 + b"x", Wanted)
