"""Memories as vectors, where a provider makes some: an optional signal beside the words.

The chat service knows the providers; it is asked as any client would ask it. A vector is made after its memory is stored, and a memory without one is found by its words alone.
With the package sqlite-vec installed, distances are computed by it over all of a user's vectors; without it in Python, over the newest `WITHOUT_EXTENSION`. Both are exact.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import apsw
import attrs
import orjson
import trio

from uait.calls.client import ServiceClient
from uait.errors import APIError, UpstreamError
from uait.services.memory.find import Scope, allow
from uait.services.memory.indexing import owner_number
from uait.services.memory.rows import fetch
from uait.storage import Database

TEXTS = 64
"""Most texts that a provider is asked to embed at once."""

CHARACTERS = 8000
"""Of one memory that is embedded: most models take no more."""

NEAREST = 200
WITHOUT_EXTENSION = 2000
DIMENSIONS = 8192


@attrs.frozen(kw_only=True)
class Embedded:
    """How many memories were given vectors, and how many have none yet."""

    embedded: int
    missing: int


class Vectors:
    """Makes vectors and compares them.

    Args:
        model: whose: `provider/name`.
        timeout: seconds for the vectors of what was just stored, or is asked.
    """

    def __init__(self, database: Database, chat: ServiceClient, model: str, timeout: float) -> None:
        self._database = database
        self._chat = chat
        self._model = model
        self._timeout = timeout

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """The vectors of texts, of length 1.

        Raises:
            APIError: the provider's, or the chat service's.
        """
        body = {"model": self._model, "input": [text[:CHARACTERS] for text in texts], "encoding_format": "float"}
        response = await self._chat.request("POST", "/v1/embeddings", json=body, timeout=self._timeout)
        try:
            answer = orjson.loads(response.content)
            listed = sorted(answer["data"], key=lambda each: each["index"])
            vectors = [_packed(each["embedding"]) for each in listed]
        except (KeyError, TypeError, ValueError, struct.error):
            raise UpstreamError("The provider's vectors cannot be read.") from None
        if len(vectors) != len(texts):
            raise UpstreamError("The provider made another number of vectors than it was asked for.")
        return vectors

    async def store(self, user_id: str) -> Embedded:
        """Make the vectors of some of the user's memories that have none, the newest first."""
        rows = await self._database.fetch_all(
            "SELECT m.seq, m.content FROM memory AS m WHERE m.user_id = ? AND NOT EXISTS "
            "(SELECT 1 FROM memory_vector AS v WHERE v.seq = m.seq AND v.model = ?) ORDER BY m.seq DESC LIMIT ?",
            (user_id, self._model, TEXTS),
        )
        if rows:
            vectors = await self.embed([str(content) for _, content in rows])

            def write(connection: apsw.Connection) -> None:
                owner = owner_number(connection, user_id)
                connection.executemany(
                    # Whoever was changed or forgotten meanwhile gets no vector of what it was.
                    "INSERT OR REPLACE INTO memory_vector (seq, owner, model, data) SELECT seq, ?, ?, ? FROM memory WHERE seq = ? AND content = ?",
                    [
                        (owner, self._model, data, seq, content)
                        for (seq, content), data in zip(rows, vectors, strict=True)
                    ],
                )

            await self._database.write(write)
        missing = await self._database.fetch_one(
            "SELECT (SELECT count(*) FROM memory WHERE user_id = ?) - (SELECT count(*) FROM memory_vector AS v JOIN owner AS o "
            "ON o.number = v.owner WHERE o.user_id = ? AND v.model = ?)",
            (user_id, user_id, self._model),
        )
        return Embedded(embedded=len(rows), missing=int(missing[0]) if missing else 0)

    async def try_store(self, user_id: str) -> None:
        """`store`, for what was just added; where that fails or takes too long, `POST /memory/embed` makes up for it."""
        with trio.move_on_after(self._timeout):
            try:
                await self.store(user_id)
            except APIError:
                return

    async def similar(self, user_id: str, scope: Scope, text: str) -> dict[int, float]:
        """The memories whose vectors are nearest to a text's, each with its similarity up to 1."""
        (wanted,) = await self.embed([text])

        def read(connection: apsw.Connection) -> dict[int, float]:
            nearest = _nearest(connection, scope.owner, self._model, wanted)
            allowed = allow(connection, scope, nearest) if scope.conditions else nearest
            return {seq: likeness for seq, likeness in nearest.items() if seq in allowed}

        return await self._database.read(read)


def _nearest(connection: apsw.Connection, owner: int, model: str, wanted: bytes) -> dict[int, float]:
    if _extended(connection):
        rows = fetch(
            connection,
            "SELECT seq, 1 - vec_distance_cosine(data, ?) FROM memory_vector WHERE owner = ? AND model = ? AND length(data) = ? "
            "ORDER BY 2 DESC LIMIT ?",
            (wanted, owner, model, len(wanted), NEAREST),
        )
        return {seq: float(likeness) for seq, likeness in rows if likeness is not None}
    rows = fetch(
        connection,
        "SELECT seq, data FROM memory_vector WHERE owner = ? AND model = ? AND length(data) = ? ORDER BY seq DESC LIMIT ?",
        (owner, model, len(wanted), WITHOUT_EXTENSION),
    )
    mine = array("f", wanted)
    scored = [(sum(a * b for a, b in zip(mine, array("f", data), strict=True)), seq) for seq, data in rows]
    return {seq: likeness for likeness, seq in sorted(scored, reverse=True)[:NEAREST]}


def _extended(connection: apsw.Connection) -> bool:
    """Whether this connection can compute distances; it learns it at its first chance."""
    path = _extension()
    if path is None:
        return False
    try:
        connection.execute("SELECT vec_version()").fetchall()
    except apsw.SQLError:
        try:
            connection.enable_load_extension(True)
            connection.load_extension(path)
        except (apsw.Error, OSError):
            _extension.cache_clear()
            return False
        finally:
            connection.enable_load_extension(False)
    return True


@cache
def _extension() -> str | None:
    try:
        module: Any = import_module("sqlite_vec")
    except ImportError:
        return None
    return str(module.loadable_path())


def _packed(numbers: Sequence[float]) -> bytes:
    if not 0 < len(numbers) <= DIMENSIONS:
        raise ValueError("no vector")
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return struct.pack(f"{len(numbers)}f", *(number / length for number in numbers))
