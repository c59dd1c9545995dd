"""Memory: stores what users tell, to the letter, and finds it again. No language model is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.services.memory.contexts import ContextStore
from uait.services.memory.model import (
    ConversationContext,
    Memory,
    MemoryChange,
    MemoryList,
    MemoryQuery,
    MemoryStatistics,
    NewContext,
    NewMemory,
)
from uait.services.memory.store import MIGRATIONS, MemoryStore
from uait.web import body, describe, query, user_id


@service(
    name="memory",
    title="memory-service",
    summary="Stores, searches and recalls what users told it",
    port=8017,
    port_variable="MEMORY_SERVICE_PORT",
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
    async with ctx.database(MIGRATIONS) as database:
        memories = MemoryStore(database)
        contexts = ContextStore(database)
        ctx.add_health_check("database", database.check)
        ctx.add_health_fact("memories", memories.count)
        app = ctx.app()

        @app.post("/memory")
        @describe(returns=Memory, status=201)
        async def add_memory() -> Any:
            """Remember something, to the letter."""
            return await memories.add(user_id(), await body(NewMemory)), 201

        @app.get("/memory")
        async def list_memories() -> MemoryList:
            """The user's memories: the best fitting first where there is a query, else the newest."""
            return await memories.search(user_id(), query(MemoryQuery))

        @app.post("/memory/search")
        async def search_memories() -> MemoryList:
            """As the list, with what is asked for in the body."""
            return await memories.search(user_id(), await body(MemoryQuery))

        @app.get("/memory/stats")
        async def memory_statistics() -> MemoryStatistics:
            """How much the user has stored."""
            return await memories.statistics(user_id())

        @app.get("/memory/<id:memory_id>")
        async def get_memory(memory_id: str) -> Memory:
            """A memory. That it was asked for is counted."""
            return await memories.get(user_id(), memory_id)

        @app.patch("/memory/<id:memory_id>")
        async def change_memory(memory_id: str) -> Memory:
            """Change a memory's content, type, tags or metadata."""
            return await memories.change(user_id(), memory_id, await body(MemoryChange))

        @app.delete("/memory/<id:memory_id>")
        async def delete_memory(memory_id: str) -> None:
            """Delete a memory, and its words in the index."""
            await memories.delete(user_id(), memory_id)

        @app.post("/context")
        @describe(returns=ConversationContext, status=201, responses={200: ConversationContext})
        async def put_context() -> Any:
            """Make a conversation's context (201), or change what is named of it (200)."""
            context, made = await contexts.put(user_id(), await body(NewContext))
            return context, 201 if made else 200

        @app.get("/context/<id:conversation_id>")
        async def get_context(conversation_id: str) -> ConversationContext:
            """A conversation's context: its summary and the memories that belong to it."""
            return await contexts.get(user_id(), conversation_id)

        @app.delete("/context/<id:conversation_id>")
        async def delete_context(conversation_id: str) -> None:
            """Delete a conversation's context. The memories stay."""
            await contexts.delete(user_id(), conversation_id)

        yield app
