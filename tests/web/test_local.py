"""Without keys, only programs and pages of this machine may ask."""

from __future__ import annotations

from typing import Any

import pytest

from uait.calls.context import SCOPE_KEY, CallContext, Identity
from uait.errors import Forbidden
from uait.web import user_id
from uait.web.local import check_local, from_this_machine


def checked(host: bytes | None = b"localhost", origin: bytes | None = None, name: str = "localhost") -> None:
    check_local(host, origin, name=name, trusted=from_this_machine)


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"",
        b"localhost",
        b"LOCALHOST:9999",
        b"localhost.",
        b"app.localhost:1",
        b"127.0.0.1:8016",
        b"[::1]:8016",
        b"192.168.1.4",
        b"[fe80::1]",
    ],
)
def test_this_machines_names_and_all_addresses_are_answered(host: bytes | None) -> None:
    checked(host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:9999",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"notlocalhost",
        b"evil.example#localhost",
        b"localhost@evil.example",
    ],
)
def test_a_rebound_name_is_refused(host: bytes) -> None:
    with pytest.raises(Forbidden) as caught:
        checked(host)
    assert caught.value.error_code == "FOREIGN_HOST"


def test_the_name_it_listens_on_is_its_own() -> None:
    checked(b"uait.internal:9999", name="uait.internal")


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost:3000",
        b"https://LOCALHOST",
        b"http://127.0.0.1:9999",
        b"http://[::1]:1",
        b"http://app.localhost",
    ],
)
def test_pages_of_this_machine_may_ask(origin: bytes) -> None:
    checked(origin=origin)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"",
        b"http://localhost.evil.example",
        b"http://evil.example:80#http://localhost",
        b"file://",
        b"http://192.168.1.4",
    ],
)
def test_pages_from_elsewhere_may_not(origin: bytes) -> None:
    with pytest.raises(Forbidden) as caught:
        checked(origin=origin)
    assert caught.value.error_code == "FOREIGN_ORIGIN"


def add_who(app: Any) -> Any:
    @app.post("/who")
    async def who() -> Any:
        return {"user": user_id()}

    return app


FOREIGN = [{"Origin": "https://evil.example"}, {"Host": "evil.example"}]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_foreign_page_reaches_no_handler(make_app: Any, ask: Any, headers: dict[str, str]) -> None:
    answer = await ask(add_who(make_app()), "/who", method="POST", headers=headers)
    assert (answer.status, answer.error["code"].partition("_")[0]) == (403, "FOREIGN")


@pytest.mark.parametrize("headers", FOREIGN)
async def test_with_keys_the_key_decides(make_app: Any, ask: Any, headers: dict[str, str]) -> None:
    app = add_who(make_app(keys={"ann": "key-of-ann"}))
    answer = await ask(app, "/who", method="POST", headers={**headers, "X-API-Key": "key-of-ann"})
    assert answer.json == {"user": "ann"}


async def test_a_call_from_this_process_is_not_looked_at(make_app: Any, ask: Any) -> None:
    call = CallContext("1", Identity("ann"))
    answer = await ask(add_who(make_app()), "/who", method="POST", headers=FOREIGN[1], **{SCOPE_KEY: call})
    assert answer.json == {"user": "ann"}
