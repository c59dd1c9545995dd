"""What is hooked into Quart's steps runs, although steps without a hook are left out."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from quart import Blueprint, after_this_request, g, request, session
from quart.sessions import SecureCookieSessionInterface
from quart.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)


async def test_every_hook_runs(make_app: Any, ask: Any) -> None:
    app, blue, seen = make_app(), Blueprint("blue", __name__), []

    def hook(name: str) -> Any:
        async def run(*args: Any) -> Any:
            seen.append(name)
            return args[0] if name.startswith("after") else None

        return run

    @blue.route("/blue/<word>")
    async def handler(word: str) -> Any:
        seen.append(f"handler {word} {request.blueprints}")
        return {}

    blue.url_value_preprocessor(lambda endpoint, values: seen.append(f"values of {endpoint}"))
    blue.before_request(hook("before blue"))
    blue.after_request(hook("after blue"))
    blue.teardown_request(hook("teardown blue"))
    app.before_request(hook("before"))
    app.after_request(hook("after"))
    app.teardown_request(hook("teardown"))
    app.teardown_appcontext(hook("teardown app"))
    app.register_blueprint(blue)
    assert (await ask(app, "/blue/x")).status == 200
    assert seen == [
        "values of blue.handler",
        "before",
        "before blue",
        "handler x ['blue']",
        "after blue",
        "after",
        "teardown blue",
        "teardown",
        "teardown app",
    ]


@pytest.mark.parametrize(
    "signal",
    [
        request_started,
        request_finished,
        request_tearing_down,
        appcontext_pushed,
        appcontext_tearing_down,
        appcontext_popped,
    ],
    ids=lambda signal: signal.name,
)
async def test_signals_are_sent(make_app: Any, ask: Any, signal: Any) -> None:
    app, seen = make_app(), []

    async def receiver(sender: Any, **_: Any) -> None:
        seen.append(sender)

    with signal.connected_to(receiver):
        await ask(app, "/health")
    assert seen == [app]


async def test_any_kind_of_handler_is_called_as_what_it_is(make_app: Any, ask: Any) -> None:
    app = make_app()

    async def answer(text: str) -> Any:
        g.text = text
        return {"text": g.text}

    def plain() -> Any:
        return {"text": "plain"}

    @functools.wraps(plain)
    async def wrapper() -> Any:
        return await answer("wrapped")

    class Bound:
        async def method(self) -> Any:
            return await answer("method")

    handlers: dict[str, Any] = {
        "plain": plain,
        "partial": functools.partial(answer, "partial"),
        "wrapped": wrapper,
        "method": Bound().method,
    }
    if hasattr(inspect, "markcoroutinefunction"):
        handlers["marked"] = inspect.markcoroutinefunction(lambda: answer("marked"))
    for name, handler in handlers.items():
        app.add_url_rule(f"/{name}", name, handler)
        assert (await ask(app, f"/{name}")).json == {"text": name}


async def test_a_hook_set_while_a_plain_result_is_made_sees_it(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/x")
    async def handler() -> Any:
        @after_this_request
        async def sign(response: Any) -> Any:
            response.headers["X-Signed"] = "yes"
            return response

        return {}

    assert (await ask(app, "/x")).headers["x-signed"] == "yes"


async def test_sessions_are_saved_with_a_plain_result(make_app: Any, ask: Any) -> None:
    app = make_app()
    app.session_interface, app.secret_key = SecureCookieSessionInterface(), "a secret"

    @app.get("/x")
    async def handler() -> Any:
        session["n"] = 1
        return {}

    assert "session=" in (await ask(app, "/x")).headers["set-cookie"]


async def test_errors_have_their_handlers(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.errorhandler(LookupError)
    async def tell(error: LookupError) -> Any:
        return {"missing": str(error.args[0])}

    @app.get("/x")
    async def handler() -> Any:
        raise KeyError("a")

    assert (await ask(app, "/x")).json == {"missing": "a"}


@pytest.mark.parametrize(
    "result",
    [
        {"a": 1},
        ({"a": 1}, 201),
        ([1], 200, {"X-More": "text", "x-Again": "1"}),
        ({"a": 1}, 200, {"Content-Type": "application/other"}),
        ({"a": 1}, 204),
        ({"a": 1}, 200, {"X-Broken": "a\r\nSet-Cookie: b"}),
        ({"a": 1}, 200, {"X-Number": 1}),
        ({"a": 1}, {"X-No-Status": "1"}),
    ],
)
async def test_what_is_written_without_a_response_is_what_a_response_would_be(
    make_app: Any, ask: Any, result: Any
) -> None:
    answers = []
    for hooked in (False, True):
        app = make_app()

        @app.get("/it")
        async def handler() -> Any:
            return result

        if hooked:

            @app.after_request
            async def see(response: Any) -> Any:
                return response

        answer = await ask(app, "/it")
        headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
        answers.append((answer.status, headers, b"" if answer.status == 500 else answer.body))
        if answer.status == 500:
            headers.pop("content-length")
    assert answers[0] == answers[1]
