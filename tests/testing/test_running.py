"""What the fixtures promise to authors of services."""

from __future__ import annotations

import json
from typing import Any

import attrs
import httpx
import pytest
import trio

from uait import Context, RestartPolicy, ServiceSpec, body, service
from uait.errors import InternalError, ServiceFailed, SettingsError


@attrs.frozen
class Own:
    greeting: str = "hello"


@attrs.frozen
class Note:
    text: str


@service(settings=Own, port=1)
async def greeter(ctx: Context) -> Any:
    app = ctx.app()

    @app.get("/greet/<name>")
    async def greet(name: str) -> dict[str, str]:
        known = await ctx.client("book-of-names").get_json(f"/names/{name}")
        return {"text": f"{ctx.settings.greeting} {known['full']}"}

    @app.post("/note")
    async def note() -> dict[str, str]:
        text = (await body(Note)).text
        file = ctx.data_dir / "note"
        before = file.read_text() if file.exists() else ""
        file.write_text(text)
        return {"before": before}

    @app.get("/environ")
    async def environ() -> dict[str, str]:
        return dict(ctx.environ)

    return app


async def book(scope: Any, receive: Any, send: Any) -> None:
    """A stand-in as a plain ASGI app."""
    name = scope["path"].rpartition("/")[2]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps({"full": name.title()}).encode()})


@service(name="book", port=2)
async def book_service(ctx: Context) -> Any:
    app = ctx.app()

    @app.get("/names/<name>")
    async def names(name: str) -> dict[str, str]:
        return {"full": f"Dr {name}"}

    return app


async def test_requests_reach_the_service_and_statuses_do_not_raise(run_service: Any) -> None:
    async with run_service(greeter) as client:
        health = await client.get("/health")
        missing = await client.get("/nothing")
        wrong = await client.post("/note", json={"text": 5})

    assert isinstance(client, httpx.AsyncClient)
    assert health.json()["service"] == "greeter"
    assert missing.json()["error"]["code"] == "NOT_FOUND"
    assert wrong.status_code == 422


async def test_stand_ins_may_be_apps_or_services_and_go_by_the_name_they_are_given(run_service: Any) -> None:
    for stand_in, expected in ((book, "hello Ada"), (book_service, "hello Dr ada")):
        async with run_service(greeter, book_of_names=stand_in) as client:
            assert (await client.get("/greet/ada")).json() == {"text": expected}


async def test_one_service_may_stand_in_for_several(run_service: Any) -> None:
    @service
    async def anyone(ctx: Context) -> Any:
        return ctx.app()

    @service
    async def asking(ctx: Context) -> Any:
        app = ctx.app()

        @app.get("/asked")
        async def asked() -> Any:
            return {name: (await ctx.client(name).get_json("/health"))["service"] for name in ("hub", "memory")}

        return app

    async with run_service(asking, hub=anyone, memory=anyone) as client:
        assert (await client.get("/asked")).json() == {"hub": "hub", "memory": "memory"}


async def test_without_a_stand_in_the_other_service_is_not_there(run_service: Any) -> None:
    async with run_service(greeter) as client:
        assert (await client.get("/greet/ada")).status_code >= 400


async def test_settings_are_the_services_section_and_are_checked(run_service: Any) -> None:
    async with run_service(greeter, settings={"greeting": "hi"}, book_of_names=book) as client:
        assert (await client.get("/greet/ada")).json() == {"text": "hi Ada"}

    with pytest.raises(SettingsError, match="greeting must be text"):
        async with run_service(greeter, settings={"greeting": 5}):
            pass


async def test_the_environment_of_whoever_runs_the_tests_does_not_matter(
    run_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UAIT_GREETER_GREETING", "moin")
    async with run_service(greeter, book_of_names=book) as client:
        assert (await client.get("/greet/ada")).json() == {"text": "hello Ada"}
        assert (await client.get("/environ")).json() == {}


async def test_two_runs_share_the_data_directory(run_service: Any) -> None:
    async with run_service(greeter) as client:
        assert (await client.post("/note", json={"text": "one"})).json() == {"before": ""}
    async with run_service(greeter) as client:
        assert (await client.post("/note", json={"text": "two"})).json() == {"before": "one"}


async def test_live_gives_a_base_url(run_service_live: Any) -> None:
    async with run_service_live(greeter, book_of_names=book) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/greet/ada")).json() == {"text": "hello Ada"}


def raw(app: Any, **declared: Any) -> ServiceSpec:
    async def factory(ctx: Context) -> Any:
        return app

    return ServiceSpec(factory=factory, name="raw", **declared)


async def test_a_service_that_does_not_start_fails_the_test_with_its_reason(run_service: Any) -> None:
    @service(restart=RestartPolicy(intensity=0))
    async def broken(ctx: Context) -> Any:
        raise RuntimeError("no luck today")

    with pytest.raises(ServiceFailed, match="broken is failed: RuntimeError: no luck today"):
        async with run_service(broken):
            pass


async def test_a_crash_of_the_app_comes_out_as_what_it_was(run_service: Any) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("deep reason")

    async with run_service(raw(crash)) as client:
        with pytest.raises(InternalError) as caught:
            await client.get("/")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_bodies_stream_both_ways(run_service: Any) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    sender, receiver = trio.open_memory_channel[bytes](0)

    async def upload() -> Any:
        async for chunk in receiver:
            yield chunk

    async with run_service(raw(echo)) as client, client.stream("POST", "/", content=upload()) as answer:
        chunks = answer.aiter_bytes()
        for chunk in (b"one", b"two"):
            await sender.send(chunk)
            assert await anext(chunks) == chunk
        await sender.aclose()
        assert [chunk async for chunk in chunks] == []


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")  # httpx does not close its own generators
async def test_leaving_a_stream_cancels_the_app(run_service: Any, caplog: pytest.LogCaptureFixture) -> None:
    ended = trio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.set()

    async with run_service(raw(endless)) as client:
        async with client.stream("GET", "/") as answer:
            async for _ in answer.aiter_raw():
                break
        assert ended.is_set()
    assert "crashed" not in caplog.text


async def test_cancelling_a_request_cancels_the_app(run_service: Any, autojump_clock: Any) -> None:
    ended = trio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

    async with run_service(raw(hang)) as client:
        with trio.move_on_after(1):
            await client.get("/")
        assert ended.is_set()


async def test_query_and_headers_arrive_as_they_were_sent(run_service: Any) -> None:
    async def tell(scope: Any, receive: Any, send: Any) -> None:
        told = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "header": dict(scope["headers"])[b"x-user-id"].decode(),
        }
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    async with run_service(raw(tell)) as client:
        answer = await client.put("/a%20b?x=1&y=%2F", headers={"X-User-ID": "ada"})

    assert answer.json() == {"method": "PUT", "path": "/a b", "query": "x=1&y=%2F", "header": "ada"}


async def test_a_tests_own_failure_comes_out_as_it_is(run_service: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with run_service(book_service) as client:
            await client.get("/health")
            raise ZeroDivisionError
