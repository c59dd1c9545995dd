"""What the index is told of a memory: its words, which session it belongs to, when it was, who speaks.

All of it is made from the memory alone, so it can be made again. The index itself reads it through the view `memory_indexed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import apsw
import attrs
import orjson

from uait.services.memory.metadata import moment_of, place_of, session_of, speaker_of
from uait.services.memory.words import fingerprint, has_number, has_time, index_words, name_words

ASKS, HAS_TIME, HAS_NUMBER = 1, 2, 4

LOOKED_AT = 4000
"""Words of a memory that are looked at for what kind of sentence it is."""

DAY = 86_400

_SPOKEN = re.compile(r"\s*([A-Z\u00c0-\u1fff][\w.'’-]{0,30}(?: [A-Z\u00c0-\u1fff][\w.'’-]{0,30}){0,2}) ?: ")


@attrs.frozen
class IndexRow:
    """A row of `memory_words`, but for `seq` and `owner`. `place` is None where only the order of adding tells it."""

    session: int
    moment: int
    place: int | None
    length: int
    flags: int
    fingerprint: bytes
    speaker: str
    tags: str
    words: str


def index_row(
    user_id: str,
    content: str,
    tags: Sequence[str],
    metadata: Mapping[str, Any],
    *,
    session_id: str | None,
    occurred_at: str | None,
    created_at: str,
) -> IndexRow:
    """What the index is told of one memory."""
    words = index_words(content)
    speaker = speaker_of(metadata) or _spoken_by(content)
    names = " ".join(name_words(speaker)) if speaker else ""
    said = [word for tag in tags for word in index_words(tag)]
    beginning = words[:LOOKED_AT]
    flags = (
        ASKS * content.rstrip().endswith(("?", "？", "؟"))
        | HAS_TIME * has_time(beginning)
        | HAS_NUMBER * has_number(beginning)
    )
    place = place_of(metadata)
    moment = _seconds(occurred_at or created_at)
    if occurred_at is None and place is not None:
        # When it was added says the day at best: within it the place orders a session, in whatever order its turns were added.
        moment -= moment % DAY
    return IndexRow(
        session=session_number(user_id, session_id, metadata),
        moment=moment,
        place=place,
        length=len(words),
        flags=flags,
        fingerprint=fingerprint(words) if words else b"",
        speaker=names,
        tags=" ".join([*said, names] if names else said),
        words=" ".join(words),
    )


def when(occurred_at: datetime | None, metadata: dict[str, Any]) -> datetime | None:
    """When something was: as it is said, or as the metadata tells it."""
    return occurred_at or moment_of(metadata)


def session_number(user_id: str, session_id: str | None, metadata: Mapping[str, Any]) -> int:
    """A session as a number that no other session of anybody has, 0 for none."""
    parts = [session_id] if session_id is not None else []
    parts += session_of(metadata)
    return _session_number(user_id, tuple(parts)) if parts else 0


@lru_cache(maxsize=4096)
def _seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


@lru_cache(maxsize=4096)
def _session_number(user_id: str, parts: tuple[str, ...]) -> int:
    digest = blake2b(orjson.dumps([user_id, parts]), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def _spoken_by(content: str) -> str:
    match = _SPOKEN.match(content[:120])
    return match[1] if match else ""


def owner_number(connection: apsw.Connection, user_id: str) -> int:
    """The number of a user, who gets one here."""
    connection.execute("INSERT INTO owner (user_id) VALUES (?) ON CONFLICT DO NOTHING", (user_id,))
    rows: list[Any] = connection.execute("SELECT number FROM owner WHERE user_id = ?", (user_id,)).fetchall()
    return int(rows[0][0])


def index(connection: apsw.Connection, owner: int, rows: Iterable[tuple[int, IndexRow]]) -> None:
    """Put memories, by their `seq`, into the index, and count them. They are not in it."""
    given = _index(connection, owner, rows)
    connection.execute(
        "UPDATE owner SET memories = memories + ?, words = words + ? WHERE number = ?",
        (len(given), sum(row[5] for row in given), owner),
    )


def _index(connection: apsw.Connection, owner: int, rows: Iterable[tuple[int, IndexRow]]) -> list[tuple[Any, ...]]:
    given = [
        (seq, owner, r.session, r.moment, seq if r.place is None else r.place, r.length, r.flags, r.fingerprint, r.speaker, r.tags, r.words)
        for seq, r in rows
    ]  # fmt: skip
    connection.executemany("INSERT INTO memory_words VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", given)
    # One statement for each run of numbers: a statement for each memory takes several times as long.
    runs: list[tuple[int, int]] = []
    for row in given:
        if runs and row[0] == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], row[0])
        else:
            runs.append((row[0], row[0]))
    connection.executemany(
        "INSERT INTO memory_text (rowid, words, tags) SELECT seq, words, tags FROM memory_indexed WHERE seq BETWEEN ? AND ?",
        runs,
    )
    return given


def unindex(connection: apsw.Connection, seqs: Iterable[int]) -> None:
    """Take memories out of the index, which must be told what it was given."""
    gone = [(seq,) for seq in seqs]
    connection.executemany(
        "INSERT INTO memory_text (memory_text, rowid, words, tags) SELECT 'delete', seq, words, tags FROM memory_indexed WHERE seq = ?",
        gone,
    )
    connection.executemany("DELETE FROM memory_words WHERE seq = ?", gone)


def index_all(connection: apsw.Connection) -> None:
    """Index every memory that is not, in the migration that made the index; a trigger counted them then."""
    rows: list[Any] = connection.execute(
        "SELECT seq FROM memory WHERE seq NOT IN (SELECT seq FROM memory_words) ORDER BY seq"
    ).fetchall()
    for start in range(0, len(rows), 500):
        part = [seq for (seq,) in rows[start : start + 500]]
        found: list[Any] = connection.execute(
            "SELECT seq, user_id, type, content, tags, metadata, created_at, session_id, agent_id, source, occurred_at FROM memory "
            "WHERE seq BETWEEN ? AND ?",
            (part[0], part[-1]),
        ).fetchall()
        wanted = set(part)
        for seq, user_id, kind, content, tags, metadata, created_at, session_id, agent_id, source, occurred_at in found:
            if seq not in wanted:
                continue
            told, about = orjson.loads(tags), orjson.loads(metadata)
            moment = None if occurred_at else moment_of(about)
            if moment is not None:
                occurred_at = moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                connection.execute("UPDATE memory SET occurred_at = ? WHERE seq = ?", (occurred_at, seq))
            connection.execute(
                "UPDATE memory SET digest = ? WHERE seq = ?",
                (digest(content, kind, told, about, agent_id, session_id, source, occurred_at), seq),
            )
            row = index_row(
                user_id, content, told, about, session_id=session_id, occurred_at=occurred_at, created_at=created_at
            )
            _index(connection, owner_number(connection, user_id), [(seq, row)])


def digest(content: str, *rest: Any) -> bytes:
    """The same for memories of which nothing that was given differs."""
    kept = blake2b(content.encode(), digest_size=16)
    kept.update(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS))
    return kept.digest()
