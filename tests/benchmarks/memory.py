"""Memory's figures: storing 10,000 at once over HTTP, and searches over HTTP among 100,000 memories of one user in a file of a million, beside raw FTS5. `python memory.py [THOUSANDS [USERS]]`; making the file takes a minute or two."""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw
import httpx
import trio
from _dialogues import make
from _process import resident, running, used

from uait.services.memory.model import NewMemory
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.store import MemoryStore
from uait.storage import open_database

OTHERS = [
    "harbour",
    "winter",
    "copper",
    "lantern",
    "saddle",
    "orchard",
    "ticket",
    "ribbon",
    "marble",
    "thunder",
    "pocket",
    "meadow",
    "candle",
    "violet",
    "hammer",
    "basket",
    "engine",
    "pepper",
    "mirror",
    "feather",
]


def texts(count: int) -> list[dict[str, Any]]:
    """Turns of dialogues, each made unlike the others by a few further words."""
    dice = random.Random(7)
    turns = [turn for seed in range(12) for turn in make(seed).turns]
    return [
        {
            "content": f"{(turn := turns[number % len(turns)]).text} {' '.join(dice.sample(OTHERS, 2))} {number}",
            "metadata": {"session": f"{number // 24}", "date": turn.date, "speaker": turn.speaker},
        }
        for number in range(count)
    ]


async def fill(path: Path, each: int, users: int) -> None:
    """One user's memories as the service stores them; the others' are the same rows again."""
    async with open_database(path, MIGRATIONS) as database:
        store = MemoryStore(database)
        async for _ in store.add_many("ann", [NewMemory(**new) for new in texts(each)]):
            pass
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = off; PRAGMA cache_size = -200000")
    columns = [
        str(row[1]) for row in connection.execute("PRAGMA table_info(memory)") if row[1] not in ("seq", "id", "user_id")
    ]
    for user in range(1, users):
        with connection:
            connection.execute(
                "INSERT INTO owner (number, user_id, memories, words) SELECT ?, ?, memories, words FROM owner WHERE number = 1",
                (1 + user, f"user{user}"),
            )
            shift = user * each
            connection.execute(
                f"INSERT INTO memory (seq, id, user_id, {', '.join(columns)}) SELECT seq + ?, id, ?, {', '.join(columns)} FROM memory WHERE user_id = 'ann'",
                (shift, f"user{user}"),
            )
            connection.execute(
                "INSERT INTO memory_words SELECT seq + ?, ?, session + ?, moment, place, length, flags, fingerprint, speaker, tags, words "
                "FROM memory_words WHERE owner = 1",
                (shift, 1 + user, user),
            )
            connection.execute(
                "INSERT INTO memory_text (rowid, words, tags) SELECT seq, words, tags FROM memory_indexed WHERE seq > ? AND seq <= ?",
                (shift, shift + each),
            )
    connection.close()


def raw(count: int) -> float:
    """Seconds for the same texts into a bare FTS5 table, in one durable transaction."""
    new = texts(count)
    with tempfile.TemporaryDirectory() as directory:
        connection = apsw.Connection(str(Path(directory) / "raw.sqlite3"))
        connection.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full")
        connection.execute(
            "CREATE VIRTUAL TABLE t USING fts5(content, metadata, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        began = time.perf_counter()
        with connection:
            connection.executemany(
                "INSERT INTO t VALUES (?, ?)", [(each["content"], json.dumps(each["metadata"])) for each in new]
            )
        took = time.perf_counter() - began
        connection.close()
    return took


def raw_search(questions: list[str], each: int) -> list[float]:
    """Seconds of searches in a bare FTS5 table with one user's texts."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(content, tokenize = 'porter unicode61 remove_diacritics 2')")
    connection.executemany("INSERT INTO t VALUES (?)", [(new["content"],) for new in texts(each)])
    took = []
    for question in questions:
        words = "".join(sign if sign.isalnum() else " " for sign in question).split()
        began = time.perf_counter()
        connection.execute(
            "SELECT rowid FROM t WHERE t MATCH ? ORDER BY bm25(t) LIMIT 10",
            (" OR ".join(f'"{word}"' for word in words),),
        ).fetchall()
        took.append(time.perf_counter() - began)
    connection.close()
    return took


def shown(took: list[float]) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"median {cuts[49] * 1e3:6.1f} ms   p99 {cuts[98] * 1e3:6.1f} ms"


def main() -> None:
    each = 1000 * int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    users = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    questions = [asked.question for seed in range(4) for asked in make(seed).questions][:300]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "memory.sqlite3"
        began = time.perf_counter()
        trio.run(fill, path, each, users)
        print(
            f"{each:,} memories of one user among {each * users:,}, {path.stat().st_size / 2**20:,.0f} MiB, made in {time.perf_counter() - began:.0f} s"
        )
        with (
            running(directory) as (process, ports, _),
            httpx.Client(base_url=f"http://127.0.0.1:{ports['memory']}", timeout=120) as client,
        ):
            body = {"memories": texts(10_000)}
            began, busy = time.perf_counter(), used(process.pid)
            answer = client.post("/memory/batch", json=body, headers={"X-User-ID": "new"})
            took, busy = time.perf_counter() - began, used(process.pid) - busy
            print(
                f"10,000 in a batch over HTTP: {took:.2f} s, processor {busy:.2f} s ({answer.json()['added']} added); raw FTS5, one commit: {raw(10_000):.2f} s"
            )
            headers = {"X-User-ID": "ann"}
            for question in questions[:20]:
                client.get("/memory", params={"query": question, "limit": 10}, headers=headers)
            searches, busy = [], used(process.pid)
            for question in questions:
                began = time.perf_counter()
                client.get("/memory", params={"query": question, "limit": 10}, headers=headers).raise_for_status()
                searches.append(time.perf_counter() - began)
            busy = (used(process.pid) - busy) / len(questions)
            print(
                f"search over HTTP:      {shown(searches)}   processor {busy * 1e3:.1f} ms each   ({resident(process.pid):.0f} MiB)"
            )
    print(f"raw FTS5, one user's:  {shown(raw_search(questions, each))}")


if __name__ == "__main__":
    main()
