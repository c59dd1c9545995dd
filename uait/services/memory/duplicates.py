"""Memories that are there already: the very same one, and those that are nearly the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import apsw
import orjson

from uait.services.memory.model import Memory, SimilarMemory
from uait.services.memory.rows import COLUMNS, Prepared, fetch, memory_of, to_text
from uait.services.memory.words import resemblance

SIMILAR = 0.7
"""From so much on two memories are nearly the same."""

SHOWN = 3
LOOKED_AT = 100
"""Most memories that one word is compared with."""

PROBES = 12
WORDS = 400
"""Longer texts are compared by their fingerprint alone."""


def find_same(connection: apsw.Connection, user_id: str, prepared: Prepared) -> Memory | None:
    """A memory of the user of which nothing that was given differs, and which is there now."""
    rows = fetch(
        connection,
        f"SELECT {COLUMNS} FROM memory WHERE user_id = ? AND digest = ? AND (expires_at IS NULL OR expires_at > ?) "
        "AND (valid_until IS NULL OR valid_until > ?) "
        # What is said of it may be new although it is the same: then it is none.
        "AND importance IS ? AND valid_from IS ? AND valid_until IS ? AND expires_at IS ? LIMIT 1",
        (user_id, prepared.digest, prepared.memory.updated_at, prepared.memory.updated_at, *_said_of(prepared.memory)),
    )
    return memory_of(rows[0]) if rows else None


def _said_of(memory: Memory) -> tuple[float | str | None, ...]:
    return memory.importance, memory.valid_from, memory.valid_until, memory.expires_at


def sameness(prepared: Prepared) -> Hashable:
    """Equal for those that are the very same."""
    return prepared.digest, _said_of(prepared.memory)


def find_known(connection: apsw.Connection, user_id: str, part: Sequence[Prepared]) -> dict[Hashable, str]:
    """`find_same` for many: the ids of what is there already, by `sameness`. One question for all of them: mostly nothing is."""
    rows = fetch(
        connection,
        "SELECT DISTINCT m.digest FROM json_each(?) AS given CROSS JOIN memory AS m ON m.user_id = ? AND m.digest = unhex(given.value)",
        (to_text([each.digest.hex() for each in part]), user_id),
    )
    there = {digest for (digest,) in rows}
    found: dict[Hashable, str] = {}
    for each in part:
        if each.digest in there and (same := find_same(connection, user_id, each)) is not None:
            found[sameness(each)] = same.id
    return found


def find_alike(connection: apsw.Connection, owner: int, part: Sequence[Prepared]) -> dict[bytes, list[str]]:
    """Ids of memories that say the same in other words of the same kind, by the fingerprint; the first few of each."""
    prints = {each.row.fingerprint for each in part if each.row.fingerprint}
    rows = fetch(
        connection,
        "SELECT unhex(given.value), (SELECT json_group_array(id) FROM (SELECT m.id FROM memory_words AS w JOIN memory AS m ON m.seq = w.seq "
        f"WHERE w.owner = ?1 AND w.fingerprint = unhex(given.value) LIMIT {SHOWN})) FROM json_each(?2) AS given "
        "WHERE EXISTS (SELECT 1 FROM memory_words WHERE owner = ?1 AND fingerprint = unhex(given.value))",
        (owner, to_text([each.hex() for each in prints])),
    )
    return {given: orjson.loads(ids) for given, ids in rows}


def find_similar(connection: apsw.Connection, user_id: str, owner: int, prepared: Prepared) -> list[SimilarMemory]:
    """The user's memories that are nearly the same as one that is not stored yet, the nearest first.

    Whatever shares `SIMILAR` of a text's words has at least one of any words that are more than the rest of them; the longest words, which mostly are the rarest, are looked for.
    """
    words = frozenset(prepared.row.words.split()) if prepared.row.length <= WORDS else frozenset[str]()
    found: dict[int, float] = {}
    rows = fetch(
        connection,
        "SELECT seq FROM memory_words WHERE owner = ? AND fingerprint = ? AND fingerprint != x'' LIMIT ?",
        (owner, prepared.row.fingerprint, SHOWN),
    )
    found.update((seq, 1.0) for (seq,) in rows)
    probes = sorted(words, key=lambda word: (-len(word), word))[: min(PROBES, int(len(words) * (1 - SIMILAR)) + 1)]
    for probe in probes:
        rows = fetch(
            connection,
            "SELECT seq, words FROM memory_words WHERE length <= ? AND seq IN "
            "(SELECT rowid FROM memory_text WHERE memory_text MATCH ? ORDER BY rowid DESC LIMIT ?)",
            (2 * prepared.row.length, f'words : "{owner}_{probe}"', LOOKED_AT),
        )
        for seq, theirs in rows:
            if seq not in found:
                found[seq] = resemblance(words, frozenset(theirs.split()))
    similar = sorted(((share, seq) for seq, share in found.items() if share >= SIMILAR), reverse=True)[:SHOWN]
    listed = []
    for share, seq in similar:
        rows = fetch(connection, "SELECT id, content FROM memory WHERE seq = ? AND user_id = ?", (seq, user_id))
        listed += [SimilarMemory(id=row[0], content=row[1][:1000], similarity=round(share, 3)) for row in rows]
    return listed
