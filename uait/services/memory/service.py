"""Memory: stores what users tell, to the letter, finds it again, and forgets it when told. No language model is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
from attrs import validators
from quart import Response, request

from uait.calls.standing import SCOPE_KEY as VOUCH
from uait.calls.standing import Vouched
from uait.errors import Conflict
from uait.feeds import Position
from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.services.memory import mem0
from uait.services.memory.assembly import AssembledContext, Assembler, AssembleRequest
from uait.services.memory.batch import BatchReport, BatchRequest, stream_batch, take_batch
from uait.services.memory.check import check_data
from uait.services.memory.contexts import ContextStore
from uait.services.memory.emptiness import Emptiness
from uait.services.memory.filter_schema import describe_filters
from uait.services.memory.forget import Everything, ForgetReport, ForgetRequest, Forgetter
from uait.services.memory.history import MemoryHistory
from uait.services.memory.importing import Import, ImportQuery, ImportReport
from uait.services.memory.model import (
    AsOf,
    ConversationContext,
    Memory,
    MemoryChange,
    MemoryList,
    MemoryQuery,
    MemorySearch,
    MemoryStatistics,
    NewContext,
    NewMemory,
    StoredMemory,
)
from uait.services.memory.portable import Export, ExportQuery
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.search import Finder
from uait.services.memory.selftest import SelfTest, SelfTestReport, try_questions
from uait.services.memory.store import MemoryStore
from uait.services.memory.vectors import Embedded, Vectors
from uait.services.memory.watch import Changes
from uait.services.memory.work import Work
from uait.web import Event, accepts, body, describe, event_stream, query, user_id
from uait.web.feed import send_feed

NDJSON = "application/x-ndjson"


@attrs.frozen(kw_only=True)
class MemorySettings:
    """The section `[memory]`.

    Attributes:
        embedding_model: `provider/name`, whose vectors join the words in searches; none where it is empty.
        embedding_timeout: seconds that a search, or the storing of a memory, waits for vectors before it goes without.
        watch_queue: changes that wait for one watcher before it is cut off.
    """

    embedding_model: str = ""
    embedding_timeout: float = attrs.field(default=2.0, validator=validators.gt(0))
    watch_queue: int = attrs.field(default=256, validator=validators.ge(1))


@service(
    name="memory",
    title="memory-service",
    summary="Stores, searches and recalls what users told it",
    port=8017,
    port_variable="MEMORY_SERVICE_PORT",
    settings=MemorySettings,
    doctor=check_data,
    intents=(
        "remember",
        "recall what I said",
        "store memory",
        "memory storage",
        "search my memories",
        "what do you know about me",
    ),
)
async def memory(ctx: Context) -> AsyncIterator[ASGIApp]:
    settings: MemorySettings = ctx.settings
    async with ctx.database(MIGRATIONS) as database, Emptiness(database) as emptiness:
        changes, work = Changes(ctx.feed), Work()
        memories = MemoryStore(database, changes, emptiness)
        contexts = ContextStore(database)
        vectors = None
        if settings.embedding_model:
            vectors = Vectors(database, ctx.client("chat"), settings.embedding_model, settings.embedding_timeout)
        finder = Finder(database, vectors)
        forgetter = Forgetter(database, changes, work)
        assembler = Assembler(database, finder, contexts)
        ctx.nursery.start_soon(forgetter.run)
        ctx.add_health_check("database", database.check)
        ctx.add_health_fact("memories", memories.count)
        app = ctx.app()

        @app.post("/memory")
        @describe(returns=StoredMemory, status=201, responses={200: StoredMemory})
        async def add_memory() -> Any:
            """Remember something, to the letter (201). Where the very same is there already, that is the answer (200, `deduped`)."""
            new = await body(NewMemory)
            with work.of(user_id()):
                stored = await memories.add(user_id(), new)
                if vectors is not None and not stored.deduped:
                    await vectors.try_store(user_id())
            return stored, 200 if stored.deduped else 201

        @app.post("/memory/batch")
        async def add_memories() -> BatchReport | Response:
            """Remember many things at once, in parts of 1,000; each part is stored whole or not at all. Where server-sent events are accepted, progress is told after each part, then the same as without."""
            batch = await body(BatchRequest)
            if accepts("text/event-stream"):
                return event_stream(stream_batch(memories, work, user_id(), batch))
            return await take_batch(memories, work, user_id(), batch)

        @app.get("/memory")
        async def list_memories() -> MemoryList:
            """The user's memories: the best fitting first where there is a query, else the newest."""
            found = await finder.search(user_id(), query(MemoryQuery))
            vouched: Vouched | None = request.scope.get(VOUCH)  # type: ignore[assignment]
            if vouched is not None and not found.memories:
                vouched.standing = await emptiness.vouch(user_id())
            return found

        @app.post("/memory/search")
        async def search_memories() -> MemoryList:
            """As the list, with what is asked for in the body."""
            return await finder.search(user_id(), await body(MemorySearch))

        @app.get("/memory/stats")
        async def memory_statistics() -> MemoryStatistics:
            """How much the user has stored."""
            return await memories.statistics(user_id())

        @app.post("/memory/selftest")
        async def test_search() -> SelfTestReport:
            """How well questions find what they should: recall at k on questions whose answers the caller knows."""
            return await try_questions(finder, user_id(), await body(SelfTest))

        @app.post("/memory/embed")
        async def embed_memories() -> Embedded:
            """Make vectors for some memories that have none; ask again while any are missing."""
            if vectors is None:
                raise Conflict(
                    "There is no embedding model; set `embedding_model` of the memory service.", code="NO_EMBEDDINGS"
                )
            with work.of(user_id()):
                return await vectors.store(user_id())

        @app.get("/memory/events")
        @describe(
            hidden=True
        )  # whoever tries out what /openapi.json says should not wait for an answer that never ends
        async def watch_memories() -> Response:
            """What happens to the user's memories, as server-sent events; `Last-Event-ID` goes on where the last connection ended."""
            since = Position.parse(request.headers.get("Last-Event-ID") or request.args.get("since") or "")
            feed = changes.feed(user_id())

            async def events(send: Any) -> None:
                await send_feed(feed, send, since=since, queue=settings.watch_queue)

            return event_stream(events, endless=True)

        @app.get("/memory/export")
        @describe(returns=str, media_type=NDJSON)
        async def export_memories() -> Response:
            """All memories and contexts of the user as JSON lines; with `history=true`, what each memory was before its changes, too."""
            response = Response(
                Export(database, user_id(), history=query(ExportQuery).history),
                content_type=NDJSON,
                headers={"Content-Disposition": 'attachment; filename="memories.jsonl"'},
            )
            response.timeout = None
            return response

        @app.post("/memory/import")
        @describe(returns=ImportReport, streams=True)
        async def import_memories() -> Any:
            """Take in JSON lines, as an export gives them; a line needs no more than `content`. Where server-sent events are accepted, progress is told."""
            taking = Import(database, contexts, changes, emptiness, user_id(), query(ImportQuery).conflict)
            lines: Any = request.body
            user = user_id()

            async def events(send: Any) -> None:
                async def progress(report: ImportReport) -> None:
                    await send(Event(attrs.evolve(report, errors=[]), event="progress"))

                with work.of(user):
                    await send(Event(await taking.run(lines, progress)))

            if accepts("text/event-stream"):
                return event_stream(events)
            with work.of(user):
                return await taking.run(lines)

        @app.post("/memory/forget")
        async def forget_memories() -> ForgetReport:
            """Delete the memories that a filter names. Without `confirm` it is a dry run, which gives it."""
            return await forgetter.by_filter(user_id(), await body(ForgetRequest))

        @app.delete("/memory")
        async def forget_everything() -> ForgetReport:
            """Delete everything of the user, after ending what is under way for them. Must be meant: `?all=true`."""
            query(Everything)
            return await forgetter.everything(user_id())

        @app.get("/memory/<id:memory_id>")
        async def get_memory(memory_id: str) -> Memory:
            """A memory, as it is or as it was. That it was asked for is counted."""
            return await memories.get(user_id(), memory_id, query(AsOf).moment())

        @app.patch("/memory/<id:memory_id>")
        async def change_memory(memory_id: str) -> Memory:
            """Change a memory's content, type, tags, metadata, importance or times."""
            change = await body(MemoryChange)
            with work.of(user_id()):
                return await memories.change(user_id(), memory_id, change)

        @app.delete("/memory/<id:memory_id>")
        async def delete_memory(memory_id: str) -> None:
            """Delete a memory, its words in the index, its history and its vector."""
            await forgetter.one(user_id(), memory_id)

        @app.get("/memory/<id:memory_id>/history")
        async def memory_history(memory_id: str) -> MemoryHistory:
            """All versions of a memory."""
            return await memories.history(user_id(), memory_id)

        @app.post("/memory/<id:memory_id>/invalidate")
        async def invalidate_memory(memory_id: str) -> Memory:
            """End a memory's validity now. It is kept, and found by asking for the time before (`as_of`)."""
            with work.of(user_id()):
                return await memories.invalidate(user_id(), memory_id)

        @app.post("/context")
        @describe(returns=ConversationContext, status=201, responses={200: ConversationContext})
        async def put_context() -> Any:
            """Make a conversation's context (201), or change what is named of it (200)."""
            new = await body(NewContext)
            with work.of(user_id()):
                context, made = await contexts.put(user_id(), new)
            return context, 201 if made else 200

        @app.post("/context/assemble")
        async def assemble_context() -> AssembledContext:
            """The best memories for a question or a conversation, with what was said around them, as one text within a budget of tokens, each with a citation."""
            return await assembler.assemble(user_id(), await body(AssembleRequest))

        @app.get("/context/<id:conversation_id>")
        async def get_context(conversation_id: str) -> ConversationContext:
            """A conversation's context: its summary and the memories that belong to it."""
            return await contexts.get(user_id(), conversation_id)

        @app.delete("/context/<id:conversation_id>")
        async def delete_context(conversation_id: str) -> None:
            """Delete a conversation's context. The memories stay."""
            await contexts.delete(user_id(), conversation_id)

        mem0.add_routes(app, memories, finder, forgetter, work)
        app.openapi_extensions += [_describe_import, describe_filters]
        yield app


def _describe_import(document: dict[str, Any]) -> None:
    """The body of an import is no JSON document, so no class describes it."""
    document["paths"]["/memory/import"]["post"]["requestBody"] = {
        "required": False,
        "description": "JSON lines, one memory or context each.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    parameters = document["paths"]["/memory/import"]["post"].setdefault("parameters", [])
    if not any(each["name"] == "conflict" for each in parameters):
        parameters.append(
            {"name": "conflict", "in": "query", "required": False, "schema": {"enum": ["skip", "replace", "error", ""]}}
        )
