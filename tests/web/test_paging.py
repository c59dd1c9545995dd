"""Paging by cursor."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import NotFound
from uait.web import Paging, page, query
from uait.web.paging import decode_cursor, encode_cursor

POSITIONS = st.lists(st.text() | st.integers(-(2**53), 2**53) | st.none(), max_size=4)


@given(POSITIONS)
def test_a_cursor_gives_its_position_back(position: Any) -> None:
    cursor = encode_cursor(position)
    assert decode_cursor(cursor) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=30))
def test_any_text_is_a_cursor_or_422(text: str) -> None:
    with contextlib.suppress(NotFound):
        decode_cursor(text)


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "bnVsbA==x", "ey", "ü", "\ud800"])
def test_bad_cursors(cursor: str) -> None:
    with pytest.raises(NotFound) as caught:
        decode_cursor(cursor)
    assert caught.value.details[0]["path"] == "$.cursor"


async def test_a_list_is_read_page_by_page(make_app: Any, ask: Any) -> None:
    names = [f"n{number:02}" for number in range(25)]
    app = make_app()

    @app.get("/names")
    async def list_names() -> Any:
        paging = query(Paging)
        after = paging.after() or ""
        return page([name for name in names if name > after][: paging.limit + 1], paging.limit, lambda name: name)

    found, cursor, pages = [], "", 0
    while cursor is not None:
        answer = (await ask(app, f"/names?limit=10&cursor={cursor}" if cursor else "/names?limit=10")).json
        found += answer["items"]
        cursor = answer["next_cursor"]
        pages += 1
    assert (found, pages) == (names, 3)
    assert len((await ask(app, "/names")).json["items"]) == 25
    for bad in ("limit=0", "limit=201", "limit=x", "cursor=x", "cursor=" + "x" * 2000):
        answer = await ask(app, f"/names?{bad}")
        assert answer.status == (404 if bad == "cursor=x" else 422)
        assert answer.error["details"][0]["path"] == "$." + bad.partition("=")[0]


def test_a_page_that_is_full_by_chance_is_the_last() -> None:
    assert page([1, 2], 2, lambda item: item).next_cursor is None
    assert page([1, 2, 3], 2, lambda item: item).items == [1, 2]
    assert page([], 2, lambda item: item).items == []
