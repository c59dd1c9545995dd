"""The lists of models and the embeddings of every dialect. `Upstream.models` says how the lists behave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from mock_upstream.scenarios import Body, Options, Scenario

if TYPE_CHECKING:
    from mock_upstream.server import Connection


async def _misbehaves(c: Connection, *, second: bool = False) -> bool:
    """Whether the list has been answered, and not well."""
    models = c.upstream.models
    if models == "hang":
        await trio.sleep_forever()
    elif models == "error" or (models == "second" and second):
        await c.json(500, {"error": {"message": "no list today"}})
    elif models == "page":
        await c.whole(200, b"<html>hello</html>", {"content-type": "text/html"})
    else:
        return False
    return True


def _names(c: Connection) -> list[str]:
    return c.upstream.models if isinstance(c.upstream.models, list) else ["tokens", "text-embedding-mock"]


async def openai(c: Connection, body: Body, options: Options) -> None:
    if not await _misbehaves(c):
        more = {"object": "model", "created": 5, "owned_by": "mock", "max_model_len": 4096}
        await c.json(200, {"object": "list", "data": [{"id": name, **more} for name in _names(c)]})


async def anthropic(c: Connection, body: Body, options: Options) -> None:
    """One model a page."""
    names = _names(c)
    place = names.index(options["after_id"]) + 1 if "after_id" in options else 0
    if not await _misbehaves(c, second=place > 0):
        name = names[place]
        model = {"id": name, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:05Z"}
        model |= {"max_input_tokens": 4096, "max_tokens": 512}
        more = place + 1 < len(names)
        await c.json(200, {"data": [model], "has_more": more, "first_id": name, "last_id": name})


async def gemini(c: Connection, body: Body, options: Options) -> None:
    """One model a page."""
    names = [*_names(c), "aqa"]
    place = int(options.get("pageToken", 0))
    if not await _misbehaves(c, second=place > 0):
        name = names[place]
        methods = {"aqa": ["generateAnswer"], "text-embedding-mock": ["embedContent"]}.get(name, ["generateContent"])
        model: dict[str, Any] = {"name": f"models/{name}", "inputTokenLimit": 4096, "outputTokenLimit": 512}
        model["supportedGenerationMethods"] = methods
        token = {"nextPageToken": str(place + 1)} if place + 1 < len(names) else {}
        await c.json(200, {"models": [model], **token})


async def ollama(c: Connection, body: Body, options: Options) -> None:
    if not await _misbehaves(c):
        found = []
        for name in _names(c):
            details = {"format": "gguf", "family": "llama", "families": None, "context_length": 4096}
            model: dict[str, Any] = {"name": name, "model": name, "modified_at": "1970-01-01T01:00:05.123456789+01:00"}
            if name != "text-embedding-mock":
                model["capabilities"] = ["completion", "tools"]
            found.append({**model, "size": 1, "digest": "d", "details": details})
        await c.json(200, {"models": found})


async def embed_ollama(c: Connection, body: Body, options: Options) -> None:
    vectors = [[len(text), 0.5, -1.0] for text in body["input"]]
    await c.json(200, {"model": body["model"], "embeddings": vectors, "prompt_eval_count": 3 * len(vectors)})


async def embed_gemini(c: Connection, body: Body, options: Options) -> None:
    texts = [one["content"]["parts"][0]["text"] for one in body["requests"]]
    await c.json(200, {"embeddings": [{"values": [len(text), 0.5, -1.0]} for text in texts]})


LISTS: dict[str, Scenario] = {
    "/v1/models": openai,
    "anthropic": anthropic,
    "/v1beta/models": gemini,
    "/api/tags": ollama,
}
