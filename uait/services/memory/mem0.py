"""The REST interface of mem0's own server, so that its clients find what they know. What it calls `memory` is the content; nothing is inferred: what is said is stored as it is said.

In local mode a client may name the user in `user_id`, as mem0's clients do, unless `X-User-ID` has named one. With keys, the key says who it is, and a `user_id` can only repeat that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import attrs
from attrs import validators

from uait.errors import APIError, Forbidden, Problem, ValidationFailed
from uait.services.memory.filters import compile_filter
from uait.services.memory.forget import Forgetter
from uait.services.memory.indexing import digest
from uait.services.memory.model import (
    CONTENT_CHARACTERS,
    QUERY_CHARACTERS,
    Memory,
    MemoryChange,
    MemorySearch,
    NewMemory,
    content_validator,
    small_metadata,
)
from uait.services.memory.search import Finder
from uait.services.memory.store import MemoryStore
from uait.services.memory.work import Work
from uait.web import App, body, describe, identifier, identity, query, user_id

LOCAL = "local"


@attrs.frozen(kw_only=True)
class Message:
    """Something that was said."""

    role: str = attrs.field(validator=validators.max_len(64))
    content: str = attrs.field(validator=validators.max_len(CONTENT_CHARACTERS))


@attrs.frozen(kw_only=True)
class Scoped:
    """Whose memories, and of which agent and run."""

    user_id: str | None = attrs.field(default=None, validator=validators.optional(identifier()))
    agent_id: str | None = attrs.field(default=None, validator=validators.optional(identifier()))
    run_id: str | None = attrs.field(default=None, validator=validators.optional(identifier()))


@attrs.frozen(kw_only=True)
class AddRequest(Scoped):
    """Messages to store, each as one memory, in the words in which they were said."""

    messages: list[Message] | str = attrs.field(validator=validators.max_len(CONTENT_CHARACTERS))
    metadata: dict[str, Any] | None = None
    expiration_date: datetime | None = None
    infer: bool = False
    memory_type: str | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.min_len(1), validators.max_len(64)))
    )
    prompt: str | None = None


@attrs.frozen(kw_only=True)
class Result:
    """What became of one message: `ADD`, or `NONE` where the very same was there."""

    id: str
    memory: str
    event: str


@attrs.frozen(kw_only=True)
class Results:
    results: list[Result]


@attrs.frozen(kw_only=True)
class Item:
    """A memory as mem0 shows it. `score` is there in searches."""

    id: str
    memory: str
    hash: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    user_id: str
    agent_id: str | None = None
    run_id: str | None = None
    score: float | None = None


@attrs.frozen(kw_only=True)
class Items:
    results: list[Item]


@attrs.frozen(kw_only=True)
class ListQuery(Scoped):
    """`top_k`: at most so many."""

    top_k: int = attrs.field(default=100, validator=validators.and_(validators.ge(1), validators.le(200)))


@attrs.frozen(kw_only=True)
class DeleteQuery(Scoped):
    """Whose memories are to be deleted."""

    user_id: str = attrs.field(validator=identifier())


@attrs.frozen(kw_only=True)
class SearchRequest(ListQuery):
    """A question, with mem0's filters. `threshold`: the least score."""

    query: str = attrs.field(validator=validators.and_(validators.min_len(1), validators.max_len(QUERY_CHARACTERS)))
    filters: dict[str, Any] | None = None
    threshold: float | None = None
    limit: int | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(1), validators.le(200)))
    )
    explain: bool = False
    show_expired: bool = False


@attrs.frozen(kw_only=True)
class UpdateRequest:
    """New words, or new metadata, for a memory."""

    text: str | None = attrs.field(default=None, validator=validators.optional(content_validator))
    data: str | None = attrs.field(default=None, validator=validators.optional(content_validator))
    metadata: dict[str, Any] | None = attrs.field(default=None, validator=small_metadata)


@attrs.frozen(kw_only=True)
class Done:
    message: str


@attrs.frozen(kw_only=True)
class Change:
    """One change of a memory."""

    id: str
    memory_id: str
    old_memory: str | None
    new_memory: str
    event: Literal["ADD", "UPDATE"]
    created_at: str
    updated_at: str


def render_error(error: APIError, request_id: str) -> dict[str, Any]:
    """An error as mem0's server tells it."""
    return {"detail": error.text, "code": error.error_code, "request_id": request_id}


def who(named: str | None) -> str:
    """The user that a request is about.

    Raises:
        Forbidden: it names another one than who asks.
    """
    asking = identity()
    if named is None or named == asking.user_id:
        return asking.user_id
    if asking.authenticated or asking.user_id != LOCAL:
        raise Forbidden("'user_id' names another user than the one who asks.")
    return named


def add_routes(app: App, store: MemoryStore, finder: Finder, forgetter: Forgetter, work: Work) -> None:
    """mem0's paths."""
    for prefix in ("/memories", "/search", "/reset"):
        app.errors_for(prefix, render_error)

    def scoped(filters: dict[str, Any] | None, given: Scoped) -> dict[str, Any] | None:
        wanted: list[dict[str, Any]] = [filters] if filters else []
        wanted += [{name: value} for name, value in (("agent_id", given.agent_id), ("run_id", given.run_id)) if value]
        return {"AND": wanted} if wanted else None

    @app.post("/memories")
    @describe(tags=("mem0",))
    async def mem0_add() -> Results:
        """Store messages."""
        given = await body(AddRequest)
        user = who(given.user_id)
        said = [Message(role="user", content=given.messages)] if isinstance(given.messages, str) else given.messages
        new = []
        for each in said:
            if not each.content.strip():
                continue  # there is nothing to remember in it
            about = dict(given.metadata or {})
            if len(said) > 1 or each.role != "user":
                about.setdefault("role", each.role)
            try:
                memory = NewMemory(
                    content=each.content,
                    type=given.memory_type or "general",
                    metadata=about,
                    agent_id=given.agent_id,
                    run_id=given.run_id,
                    expires_at=given.expiration_date,
                    source="mem0",
                )
            except ValueError as error:
                # The fields are checked; only the metadata, with the role beside it, can be too large.
                raise ValidationFailed([Problem("$.metadata", str(error))]) from None
            new.append(memory)
        results: list[Result] = []
        with work.of(user):
            async for part in store.add_many(user, new):
                for added in part:
                    content = new[len(results)].content
                    results.append(Result(id=added.id, memory=content, event="NONE" if added.deduped else "ADD"))
        return Results(results=results)

    @app.get("/memories")
    @describe(tags=("mem0",))
    async def mem0_list() -> Items:
        """The newest memories."""
        given = query(ListQuery)
        asked = MemorySearch(limit=given.top_k, filters=scoped(None, given))
        found = await finder.search(who(given.user_id), asked)
        return Items(results=[_item(memory) for memory in found.memories])

    @app.delete("/memories")
    @describe(tags=("mem0",))
    async def mem0_delete_all() -> Done:
        """Delete all memories of a user, or those of one agent or run. The user must be named: nobody deletes everything by leaving something out."""
        given = query(DeleteQuery)
        user = who(given.user_id)
        filters = scoped(None, given)
        if filters is None:
            await forgetter.everything(user)
        else:
            await forgetter.at_once(user, filters)
        return Done(message="All relevant memories deleted")

    @app.get("/memories/<id:memory_id>")
    @describe(tags=("mem0",))
    async def mem0_get(memory_id: str) -> Item:
        """A memory."""
        return _item(await store.get(who(query(Scoped).user_id), memory_id))

    @app.put("/memories/<id:memory_id>")
    @describe(tags=("mem0",))
    async def mem0_update(memory_id: str) -> Done:
        """Change a memory."""
        given = await body(UpdateRequest)
        text = given.text if given.text is not None else given.data
        await store.change(who(query(Scoped).user_id), memory_id, MemoryChange(content=text, metadata=given.metadata))
        return Done(message="Memory updated successfully!")

    @app.delete("/memories/<id:memory_id>")
    @describe(tags=("mem0",))
    async def mem0_delete(memory_id: str) -> Done:
        """Delete a memory."""
        await forgetter.one(who(query(Scoped).user_id), memory_id)
        return Done(message="Memory deleted successfully!")

    @app.get("/memories/<id:memory_id>/history")
    @describe(tags=("mem0",))
    async def mem0_history(memory_id: str) -> list[Change]:
        """What a memory was."""
        kept = await store.history(who(query(Scoped).user_id), memory_id)
        before: str | None = None
        changes = []
        for version in kept.versions:
            changes.append(
                Change(
                    id=f"{kept.id}.{version.version}",
                    memory_id=kept.id,
                    old_memory=before,
                    new_memory=version.memory.content,
                    event="ADD" if before is None else "UPDATE",
                    created_at=version.memory.created_at,
                    updated_at=version.at,
                )
            )
            before = version.memory.content
        return changes

    @app.post("/search")
    @describe(tags=("mem0",))
    async def mem0_search() -> Items:
        """The best fitting memories, with scores from 0 to 1, relative to the best."""
        given = await body(SearchRequest)
        if given.filters is not None and not given.filters:
            compile_filter(given.filters)  # says what is wrong with an empty one
        filters = dict(given.filters or {})
        user = who(given.user_id if given.user_id is not None else _named_user(filters))
        filters.pop("user_id", None)
        asked = MemorySearch(
            query=given.query, limit=given.limit or given.top_k, filters=scoped(filters or None, given), explain=True
        )
        found = await finder.search(user, asked)
        scores = {each.id: each.score for each in found.explanations or ()}
        best = max(scores.values(), default=0.0) or 1.0
        items = [_item(memory, round(scores.get(memory.id, 0.0) / best, 4)) for memory in found.memories]
        return Items(
            results=[each for each in items if given.threshold is None or (each.score or 0) >= given.threshold]
        )

    @app.post("/reset")
    @describe(tags=("mem0",))
    async def mem0_reset() -> Done:
        """Delete all memories of who asks, and of nobody else."""
        await forgetter.everything(user_id())
        return Done(message="All memories reset")


def _named_user(filters: dict[str, Any]) -> str | None:
    named = filters.get("user_id")
    return named if isinstance(named, str) else None


def _item(memory: Memory, score: float | None = None) -> Item:
    return Item(
        id=memory.id,
        memory=memory.content,
        hash=digest(memory.content).hex(),
        metadata=memory.metadata,
        created_at=memory.created_at,
        updated_at=memory.updated_at,
        user_id=memory.user_id,
        agent_id=memory.agent_id,
        run_id=memory.session_id,
        score=score,
    )
