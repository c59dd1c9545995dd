"""`/openapi.json`: what it says, and that it is true."""

from __future__ import annotations

import contextlib
import functools
import sys
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import attrs
import pytest
import trio
from attrs import validators
from quart import Response

import uait.web
from uait.errors import NotFound
from uait.server import bind, open_server
from uait.web import Event, Page, Paging, body, describe, event_stream, page, query
from uait.web.openapi import document_of
from uait.web.schema import Schemas

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Point:
    x: int
    y: int = 0


@attrs.frozen
class NewNote:
    """A note to be kept.

    It may be long.

    Attributes:
        content: what it says, at most
            so much.
        colour: of the paper.

    And more.
    """

    content: str = attrs.field(validator=[validators.min_len(1), validators.max_len(1000)])
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] | None = None
    stars: int | None = attrs.field(default=None, validator=validators.optional([validators.ge(1), validators.le(5)]))
    weight: float = attrs.field(default=1.0, validator=validators.gt(0))
    code: str = attrs.field(default="A1", validator=validators.matches_re(r"[A-Z][0-9]"))
    tags: list[str] = attrs.field(
        factory=list,
        validator=validators.deep_iterable(validators.max_len(10), iterable_validator=validators.max_len(3)),
    )
    metadata: dict[str, Any] = attrs.field(factory=dict)
    counts: dict[str, int] = attrs.field(factory=dict)
    points: tuple[Point, ...] = ()
    pair: tuple[int, str] | None = None
    due: datetime | None = None
    day: date | None = None
    done: bool = False
    user_request: str = attrs.field(default="", alias="userRequest")
    either: Point | str | None = None


@attrs.frozen
class Note:
    id: str
    created_at: datetime
    new: NewNote


@attrs.frozen
class Find(Paging):
    """What to find.

    Attributes:
        text: words in it.
    """

    text: str = ""
    colour: Colour | None = None
    tags: list[str] = attrs.field(factory=list)
    numbers: tuple[int, ...] = ()
    before: datetime | None = None
    stars: int | None = attrs.field(default=None, validator=validators.optional(validators.in_([1, 2, 3])))
    done: bool = False


def add_notes(app: Any) -> Any:
    """A service with some of everything."""
    notes: dict[str, Note] = {}

    @app.post("/notes")
    async def add_note() -> tuple[Note, Literal[201]]:
        """Keep a note.

        For ever.

        Raises:
            Nothing that a client should read.
        """
        note = Note(f"n{len(notes)}", datetime(2026, 1, 1), await body(NewNote))
        notes[note.id] = note
        return note, 201

    @app.get("/notes")
    @describe(tags=("reading",))
    async def list_notes() -> Page[Note]:
        asked = query(Find)
        asked.after()
        return page(list(notes.values())[: asked.limit + 1], asked.limit, lambda note: note.id)

    @app.get("/notes/<id:note_id>")
    async def read_note(note_id: str) -> Note:
        if note_id not in notes:
            raise NotFound("There is no such note.")
        return notes[note_id]

    @app.put("/notes/<id:note_id>")
    async def change_note(note_id: str) -> Note:
        new = await body(NewNote)
        if note_id not in notes:
            raise NotFound("There is no such note.")
        notes[note_id] = attrs.evolve(notes[note_id], new=new)
        return notes[note_id]

    @app.delete("/notes/<id:note_id>")
    async def forget_note(note_id: str) -> None:
        if notes.pop(note_id, None) is None:
            raise NotFound("There is no such note.")

    @app.get("/numbers/<int:number>/<path:rest>")
    async def number(number: int, rest: str) -> dict[str, int | str]:
        return {"number": number, "rest": rest}

    @app.get("/stream")
    async def stream() -> Any:
        async def events() -> Any:
            yield Event({"a": 1})

        return event_stream(events())

    @app.post("/maybe")
    async def maybe() -> Point | Response:
        async def events() -> Any:
            yield Event("x")

        asked = await uait.web.body(Point)
        return event_stream(events()) if asked.x == 5 else asked

    @app.get("/old")
    @describe(deprecated=True, returns=list[Point], responses={418: None})
    async def old() -> Any:
        return []

    @app.get("/hidden")
    @describe(hidden=True)
    async def hidden() -> Any:
        return {}

    @app.get("/text")
    @describe(returns=str, media_type="text/plain")
    async def text() -> Any:
        return Response("x", content_type="text/plain")

    @app.websocket("/ws")
    async def ws() -> None:
        pass

    return app


@pytest.fixture
async def document(make_app: Any) -> dict[str, Any]:
    return document_of(add_notes(make_app()))


async def test_the_document_is_31_and_names_the_service(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"] == {"title": "test-service", "version": "1.2.3", "description": "A service for tests"}
    assert "security" not in document


async def test_it_has_what_every_service_has_and_no_more(document: dict[str, Any]) -> None:
    built_in = {"/", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"}
    own = {"/notes", "/notes/{note_id}", "/numbers/{number}/{rest}", "/stream", "/maybe", "/old", "/text"}
    assert set(document["paths"]) == built_in | own
    assert set(document["paths"]["/notes/{note_id}"]) == {"get", "put", "delete"}


async def test_docstrings_become_words(document: dict[str, Any]) -> None:
    operation = document["paths"]["/notes"]["post"]
    assert (operation["summary"], operation["description"]) == ("Keep a note", "For ever.")
    assert document["paths"]["/notes"]["get"]["tags"] == ["reading"]
    assert document["paths"]["/old"]["get"]["deprecated"] is True


async def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)
    assert {"add_note", "health", "change_note"} <= set(names)


async def test_bodies_are_found_in_the_source(document: dict[str, Any]) -> None:
    def body_of(path: str, method: str) -> str:
        found = document["paths"][path][method]["requestBody"]
        assert found["required"] is True
        return str(found["content"]["application/json"]["schema"]["$ref"])

    assert body_of("/notes", "post") == body_of("/notes/{note_id}", "put") == "#/components/schemas/NewNoteInput"
    assert body_of("/maybe", "post") == "#/components/schemas/PointInput"


async def test_the_schema_of_what_comes_in(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["NewNoteInput"]
    assert schema["required"] == ["content"]
    assert schema["description"] == "A note to be kept."
    integer = {"type": "integer"}
    fields = schema["properties"]
    assert fields["content"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 1000,
        "description": "what it says, at most so much.",
    }
    assert fields["colour"] == {
        "type": "string",
        "enum": ["red", "blue"],
        "default": "red",
        "description": "of the paper.",
    }
    assert fields["kind"] == {"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]}
    assert fields["stars"] == {"anyOf": [integer | {"minimum": 1, "maximum": 5}, {"type": "null"}]}
    assert fields["weight"] == {"type": "number", "exclusiveMinimum": 0, "default": 1.0}
    assert fields["code"] == {"type": "string", "pattern": "^(?:[A-Z][0-9])$", "default": "A1"}
    assert fields["tags"] == {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3}
    assert fields["metadata"] == {"type": "object"}
    assert fields["counts"]["additionalProperties"]["type"] == "integer"
    assert fields["points"] == {"type": "array", "items": {"$ref": "#/components/schemas/PointInput"}}
    assert fields["pair"]["anyOf"][0]["prefixItems"][1] == {"type": "string"}
    assert fields["due"] == {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
    assert fields["done"] == {"type": "boolean", "default": False}
    assert "userRequest" in fields
    assert "user_request" not in fields


async def test_the_schema_of_what_goes_out_has_every_field(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["NewNote"]
    assert set(schema["required"]) == set(schema["properties"])
    assert document["components"]["schemas"]["Note"]["properties"]["new"] == {"$ref": "#/components/schemas/NewNote"}


async def test_generic_pages_name_what_is_on_them(document: dict[str, Any]) -> None:
    answer = document["paths"]["/notes"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/PageNote"}
    items = document["components"]["schemas"]["PageNote"]["properties"]["items"]
    assert items == {"type": "array", "items": {"$ref": "#/components/schemas/Note"}}


async def test_query_parameters(document: dict[str, Any]) -> None:
    found = {parameter["name"]: parameter for parameter in document["paths"]["/notes"]["get"]["parameters"]}
    assert set(found) == {"limit", "cursor", "text", "colour", "tags", "numbers", "before", "stars", "done"}
    assert all(parameter["in"] == "query" and not parameter["required"] for parameter in found.values())
    empty = {"type": "string", "enum": [""]}
    assert found["limit"]["schema"] == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 200}, empty],
        "default": 50,
    }
    assert found["done"]["schema"]["anyOf"][1]["enum"] == ["", "0", "1"]
    assert found["text"]["description"] == "words in it."
    assert found["before"]["schema"] == {"anyOf": [{"type": "string", "format": "date-time"}, empty]}
    assert found["stars"]["schema"]["anyOf"][0]["enum"] == [1, 2, 3]
    assert found["tags"]["schema"] == {"type": "array", "items": {"type": "string"}}


async def test_path_parameters(document: dict[str, Any]) -> None:
    number, rest = document["paths"]["/numbers/{number}/{rest}"]["get"]["parameters"]
    assert (number["name"], number["in"], number["required"]) == ("number", "path", True)
    assert number["schema"] == {"type": "integer", "minimum": 0}
    assert rest["schema"]["type"] == "string"


async def test_answers_have_their_statuses_and_types(document: dict[str, Any]) -> None:
    def answers(path: str, method: str) -> dict[str, Any]:
        return {
            status: list(response.get("content", {}))
            for status, response in document["paths"][path][method]["responses"].items()
        }

    json = ["application/json"]
    assert answers("/notes", "post") == {"201": json, "default": json}
    assert answers("/notes/{note_id}", "delete") == {"204": [], "default": json}
    assert answers("/stream", "get") == {"200": ["text/event-stream"], "default": json}
    assert set(answers("/maybe", "post")["200"]) == {"application/json", "text/event-stream"}
    assert answers("/old", "get") == {"200": json, "418": json, "default": json}
    assert answers("/text", "get")["200"] == ["text/plain"]
    assert answers("/health", "get") == {"200": json, "503": json, "default": json}


async def test_a_status_that_the_annotation_does_not_tell_hides_no_schema(make_app: Any) -> None:
    app = make_app()

    @app.post("/plain")
    async def plain() -> tuple[Note, int]:
        raise NotImplementedError

    @app.post("/headers")
    async def headers() -> tuple[Note, int, dict[str, str]]:
        raise NotImplementedError

    @app.post("/said")
    @describe(status=202)
    async def said() -> tuple[Note, int]:
        raise NotImplementedError

    @app.post("/response")
    async def response() -> tuple[Response, int]:
        raise NotImplementedError

    paths = document_of(app)["paths"]
    note = {"application/json": {"schema": {"$ref": "#/components/schemas/Note"}}}
    assert paths["/plain"]["post"]["responses"]["200"]["content"] == note
    assert paths["/headers"]["post"]["responses"]["200"]["content"] == note
    assert paths["/said"]["post"]["responses"]["202"]["content"] == note
    assert set(paths["/said"]["post"]["responses"]) == {"202", "default"}
    assert "content" not in paths["/response"]["post"]["responses"]["200"]


async def test_with_keys_the_schemes_are_named(make_app: Any) -> None:
    found = document_of(make_app(keys={"ann": "k"}))
    assert found["security"] == [{"bearer": []}, {"apiKey": []}]
    assert set(found["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert found["paths"]["/health"]["get"]["security"] == []
    assert "security" not in found["paths"]["/metrics"]["get"]


async def test_the_document_is_served(make_app: Any, ask: Any) -> None:
    app = add_notes(make_app())
    app.openapi_extensions.append(lambda document: document["info"].update(contact={"name": "x"}))
    found = (await ask(app, "/openapi.json")).json
    assert "/notes" in found["paths"]
    assert found["info"]["contact"] == {"name": "x"}


async def test_decorated_handlers_are_looked_through(make_app: Any) -> None:
    app = make_app()

    def logged(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await handler(*args, **kwargs)

        return wrapper

    @app.post("/points")
    @logged
    @describe(tags=("points",))
    async def add_point() -> Point:
        """Add a point."""
        return await body(Point)

    operation = document_of(app)["paths"]["/points"]["post"]
    assert (operation["summary"], operation["tags"]) == ("Add a point", ["points"])
    assert "requestBody" in operation
    assert "application/json" in operation["responses"]["200"]["content"]


@attrs.frozen
class Tree:
    children: list[Tree] = attrs.field(factory=list)


@attrs.frozen
class Closed:
    FORBID_UNKNOWN_KEYS: ClassVar[bool] = True
    a: int


@attrs.frozen
class Box(Generic[T]):
    inside: T
    more: dict[str, T]


def test_schemas_of_odd_types() -> None:
    schemas = Schemas()
    assert schemas.of(Tree, incoming=True) == {"$ref": "#/components/schemas/TreeInput"}
    assert schemas.components["TreeInput"]["properties"]["children"]["items"] == {
        "$ref": "#/components/schemas/TreeInput"
    }
    schemas.of(Closed, incoming=True)
    assert schemas.components["ClosedInput"]["additionalProperties"] is False
    assert schemas.of(Box[str], incoming=False) == {"$ref": "#/components/schemas/Boxstr"}
    assert schemas.components["Boxstr"]["properties"]["more"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
    }
    assert schemas.of(Any, incoming=True) == schemas.of(complex, incoming=True) == {}
    assert schemas.of(Literal[1, "a"], incoming=True) == {"enum": [1, "a"]}


@pytest.mark.system
@pytest.mark.shared
@pytest.mark.parametrize("keys", [{}, {"ann": "key"}], ids=["local", "keys"])
async def test_schemathesis_finds_nothing(make_app: Any, tmp_path: Path, keys: dict[str, str]) -> None:
    pytest.importorskip("schemathesis")
    app = add_notes(make_app(keys=keys))
    async with contextlib.AsyncExitStack() as stack:
        sockets = [stack.enter_context(socket) for socket in bind("127.0.0.1", 0)]
        server = await stack.enter_async_context(open_server(app, sockets))
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.addresses[0]}/openapi.json"]
        command += ["--max-examples=20", "--seed=2", "--request-timeout=20", "--no-color", "--mode=all"]
        if keys:
            command += ["--header", "Authorization: Bearer key"]
        with trio.fail_after(400):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=tmp_path)
    report = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, report[-8000:]
