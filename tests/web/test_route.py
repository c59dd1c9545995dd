"""What `url_for` needs is made when it is first asked."""

from __future__ import annotations

from typing import Any

import pytest
from quart import url_for
from werkzeug.routing import Rule


async def test_a_route_compiles_nothing_before_its_url_is_asked_for(
    make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    original = Rule._compile_builder

    def counted(self: Rule, append_unknown: bool = True) -> Any:
        made.append(self.rule)
        return original(self, append_unknown)

    monkeypatch.setattr(Rule, "_compile_builder", counted)
    app = make_app()

    @app.get("/notes/<id:note>/parts/<int:part>")
    async def handler(note: str, part: int) -> None:
        pass

    assert made == []
    async with app.test_request_context("/notes/a/parts/1"):
        for _ in range(2):
            assert url_for("handler", note="a b", part=7, more="x") == "/notes/a%20b/parts/7?more=x"
    assert made == ["/notes/<id:note>/parts/<int:part>"]
