"""Conversations, messages and answers from whatever model there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
from quart import request, websocket

from uait.errors import APIError
from uait.kernel.service import Context, service
from uait.llm.catalog import open_catalog
from uait.llm.find import find_providers
from uait.llm.routing import Router
from uait.llm.upstream import Timeouts
from uait.server.asgi import ASGIApp
from uait.services.chat.dialects import add_dialects
from uait.services.chat.generations import TOGETHER, Generations
from uait.services.chat.ledger import Ledger
from uait.services.chat.model import (
    ChatAnswer,
    ChatRequest,
    ChatSettings,
    Conversation,
    ConversationChange,
    ConversationList,
    Done,
    FullConversation,
    ListQuery,
    MessagesQuery,
    ModelList,
    NewConversation,
    Stopped,
)
from uait.services.chat.ports import OwnPorts
from uait.services.chat.routing import add_routing, label, route_headers
from uait.services.chat.schema import MIGRATIONS
from uait.services.chat.store import ChatStore
from uait.services.chat.usage import UsageRecorder
from uait.services.chat.viewing import View, resume
from uait.services.chat.websocket import Socket
from uait.web import accepts, body, describe, event_stream, query, user_id

EVENT_STREAM = "text/event-stream"


@service(
    name="chat",
    title="chat-service",
    summary="Conversations and streaming answers from any model",
    port=8016,
    port_variable="CHAT_SERVICE_PORT",
    settings=ChatSettings,
    intents=(
        "chat",
        "talk",
        "conversation",
        "answer a question",
        "explain something",
        "write a text",
        "help me with",
        "ask a language model",
    ),
)
async def chat(ctx: Context) -> AsyncIterator[ASGIApp]:
    settings: ChatSettings = ctx.settings
    timeouts = Timeouts(
        connect=settings.connect_timeout,
        first_token=settings.first_token_timeout,
        idle=settings.idle_timeout,
        total=settings.total_timeout,
    )
    own = OwnPorts(ctx.services, ctx.services_changed)
    providers = find_providers(ctx.environ, settings.providers, local=settings.local, taken=own.has, timeouts=timeouts)
    async with (
        ctx.database(MIGRATIONS) as database,
        open_catalog(
            providers,
            default=settings.default_model,
            aliases=settings.aliases,
            routes={name: each.models for name, each in settings.routes.items()},
        ) as catalog,
    ):
        store, ledger = ChatStore(database), Ledger(database)
        recorder = UsageRecorder(ledger, ctx.log, ctx.registry)
        ctx.nursery.start_soon(recorder.run, name="record usage")
        router = Router(
            catalog,
            ctx.nursery,
            recorder.add,
            routes=settings.routes,
            settings=settings.routing,
            prices=settings.prices,
            total=settings.total_timeout,
        )
        generations = Generations(ctx.nursery, store, router, ctx.client("memory"), settings, ctx.log)
        ctx.add_health_check("database", database.check)
        ctx.add_health_fact(
            "providers", lambda: {name: attrs.asdict(each) for name, each in catalog.known().providers.items()}
        )
        ctx.add_health_fact("generations", lambda: generations.running)
        app = ctx.app()
        add_dialects(app, catalog, router)
        add_routing(app, router, recorder, ledger, settings)

        @app.post("/chat")
        @describe(returns=ChatAnswer, streams=True)
        async def answer() -> Any:
            """Answer a message, whole or as server-sent events. With `Last-Event-ID` an earlier answer's events go on."""
            if "Last-Event-ID" in request.headers:
                events = await resume(generations, store, user_id(), request.headers["Last-Event-ID"])
                return event_stream(events)
            asked = await body(ChatRequest)
            whole = not (asked.stream or accepts(EVENT_STREAM))
            view = View(await generations.begin(user_id(), asked))
            generation = view.generation
            try:
                await generations.store_question(generation, patience=TOGETHER if whole else 0.0)
                await generation.accepted()
                if whole:
                    return await generation.finished(), 200, route_headers(generation.routed)
            except BaseException as error:
                await view.aclose()
                if isinstance(error, APIError):
                    label(error, generation.routed)
                raise
            headers = route_headers(generation.routed) | {
                "X-Conversation-ID": generation.turn.conversation_id,
                "X-Message-ID": generation.message_id,
            }
            return event_stream(view, headers=headers)

        @app.websocket("/ws/chat")
        async def socket() -> None:
            serving = Socket(
                generations,
                user_id(),
                websocket.send,
                concurrent=settings.socket_generations,
                queue=ctx.limits.queue,
            )
            await serving.serve(websocket.receive)

        @app.get("/conversations")
        async def list_conversations() -> ConversationList:
            """The user's conversations, newest first."""
            return await store.page(user_id(), query(ListQuery))

        @app.post("/conversations")
        @describe(returns=Conversation, status=201)
        async def create_conversation() -> Any:
            """Begin a conversation without a message."""
            return await store.create(user_id(), await body(NewConversation)), 201

        @app.get("/conversations/<id:conversation_id>")
        async def get_conversation(conversation_id: str) -> FullConversation:
            """A conversation with its messages."""
            page = query(MessagesQuery)
            return await store.get(user_id(), conversation_id, limit=page.limit, cursor=page.cursor)

        @app.patch("/conversations/<id:conversation_id>")
        async def change_conversation(conversation_id: str) -> Conversation:
            """Change a conversation's title, model, instructions or metadata."""
            return await store.change(user_id(), conversation_id, await body(ConversationChange))

        @app.delete("/conversations/<id:conversation_id>")
        async def delete_conversation(conversation_id: str) -> Done:
            """Delete a conversation with its messages. An answer that is being made there is stopped first."""
            await generations.stop(user_id(), conversation_id)
            await store.delete(user_id(), conversation_id)
            return Done()

        @app.post("/conversations/<id:conversation_id>/stop")
        async def stop_conversation(conversation_id: str) -> Stopped:
            """Stop what is being answered in a conversation; what there is of it is kept."""
            stopped = await generations.stop(user_id(), conversation_id)
            if not stopped:
                await store.chosen_model(user_id(), conversation_id)  # somebody else's is not found
            return Stopped(True, stopped)

        @app.get("/conversations/<id:conversation_id>/stream")
        @describe(returns=str, media_type=EVENT_STREAM, responses={204: type(None)})
        async def watch_conversation(conversation_id: str) -> Any:
            """Watch the answer that is being made in a conversation, from its beginning or after `Last-Event-ID`; 204 where there is none."""
            if "Last-Event-ID" in request.headers:
                events = await resume(generations, store, user_id(), request.headers["Last-Event-ID"])
                return event_stream(events)
            found = generations.of_conversation(user_id(), conversation_id)
            if not found:
                await store.chosen_model(user_id(), conversation_id)  # somebody else's is not found
                return None
            return event_stream(View(found[0]))

        @app.get("/models")
        async def list_models() -> ModelList:
            """Every model of every provider, as far as known within a short deadline."""
            found = await catalog.listing()
            return ModelList(list(found.models), len(found.models), dict(found.providers))

        try:
            yield app
        finally:
            await recorder.flush()  # answers that the stop has ended are counted when `run` has ended, too
