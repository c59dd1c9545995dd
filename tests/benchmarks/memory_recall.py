"""How much of what answers a question is among the first ten memories: ours beside plain FTS5 with and without neighbours. `python memory_recall.py [DIALOGUES] [WEIGHT=VALUE ...]` tries other weights, without a server and without any model. Weights are chosen by the episodes and the first half of the conversations' topics; the second half tells what that is worth."""

from __future__ import annotations

import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import _conversations
import _dialogues
import apsw
import attrs
import trio
from _dialogues import Asked, Dialogue, Turn

from uait.services.memory import find, ranking, search
from uait.services.memory.model import MemorySearch, NewMemory
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.search import Finder
from uait.services.memory.store import MemoryStore
from uait.services.memory.times import read_moment
from uait.services.memory.words import COMMON
from uait.storage import open_database

K = 10


def plain(dialogue: Dialogue, around: int) -> Callable[[str], list[str]]:
    """FTS5 with stemming and stop words; the turns beside in a second column."""
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE t USING fts5(own, beside, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    texts = [f"{turn.speaker}: {turn.text}" for turn in dialogue.turns]
    for at, turn in enumerate(dialogue.turns):
        beside = [
            texts[other]
            for other in range(max(0, at - around), min(len(texts), at + around + 1))
            if other != at and dialogue.turns[other].session == turn.session
        ]
        connection.execute("INSERT INTO t(rowid, own, beside) VALUES (?, ?, ?)", (at, texts[at], " ".join(beside)))

    def ask(question: str) -> list[str]:
        words = [word for word in re.findall(r"\w+", question.lower()) if word not in COMMON]
        match = " OR ".join(f'"{word}"' for word in words)
        rows = connection.execute(f"SELECT rowid FROM t WHERE t MATCH ? ORDER BY bm25(t, 1, 0.3) LIMIT {K}", (match,))
        return [dialogue.turns[int(str(row[0]))].id for row in rows]

    return ask


async def ours(dialogue: Dialogue, path: Path, style: int) -> dict[str, list[str]]:
    """The answers of our own search, each turn stored as one memory, in one of the ways in which clients do that."""
    async with open_database(path, MIGRATIONS) as database:
        store, finder = MemoryStore(database), Finder(database)
        new = [stored(turn, style) for turn in dialogue.turns]
        ids: dict[str, str] = {}
        at = 0
        async for part in store.add_many("ann", new):
            for added in part:
                ids[added.id] = dialogue.turns[at].id
                at += 1
        found = {}
        for asked in dialogue.questions:
            listed = await finder.search("ann", MemorySearch(query=asked.question, limit=K))
            found[asked.question] = [ids[memory.id] for memory in listed.memories]
        return found


def stored(turn: Turn, style: int) -> NewMemory:
    match style % 4:
        case 0:
            return NewMemory(
                content=f"{turn.speaker}: {turn.text}",
                metadata={"session": turn.session, "date": turn.date, "turn": turn.id},
            )
        case 1:
            return NewMemory(
                content=turn.text,
                metadata={
                    "session_id": turn.session,
                    "timestamp": turn.date,
                    "speaker": turn.speaker,
                    "dia_id": turn.id,
                },
            )
        case 2:
            return NewMemory(
                content=f"{turn.speaker}: {turn.text}",
                metadata={"sessionId": int(turn.session.rpartition("_")[2]), "session_date": iso(turn.date)},
            )
        case _:
            return NewMemory(
                content=turn.text,
                metadata={"run_id": turn.session, "date_time": turn.date, "author": turn.speaker, "no": turn.id},
            )


def iso(date: str) -> str:
    moment = read_moment(date)
    assert moment is not None
    return moment.isoformat()


def recall(asked: Asked, found: list[str]) -> float:
    return len(asked.evidence & set(found)) / len(asked.evidence)


def main() -> None:
    numbers = [argument for argument in sys.argv[1:] if "=" not in argument]
    changed = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    weights = attrs.evolve(ranking.WEIGHTS, **{name: eval(value) for name, value in changed.items()})
    for module in (ranking, search, find):
        module.WEIGHTS = weights  # type: ignore[attr-defined]
    ranking.rank.__defaults__ = (weights,)
    ranking.diversify.__defaults__ = (weights,)
    count = int(numbers[0]) if numbers and numbers[0].isdigit() else 4
    sets: dict[str, Callable[[int], Dialogue]] = {
        "episodes": _dialogues.make,
        "conversations, first half of the topics": lambda seed: _conversations.make(seed, half=0),
        "conversations, second half of the topics": lambda seed: _conversations.make(seed, half=1),
    }
    for name, make in sets.items():
        measure(name, [make(seed) for seed in range(count)], missed="--missed" in numbers)


def measure(name: str, dialogues: list[Dialogue], *, missed: bool) -> None:
    totals: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    lost = []
    for seed, dialogue in enumerate(dialogues):
        with tempfile.TemporaryDirectory() as directory:
            mine = trio.run(ours, dialogue, Path(directory) / "memory.sqlite3", seed)
        ways: dict[str, Callable[[str], list[str]]] = {
            "plain FTS5, single turns": plain(dialogue, 0),
            "plain FTS5, one neighbour": plain(dialogue, 1),
            "plain FTS5, two neighbours": plain(dialogue, 2),
            "ours": mine.__getitem__,
        }
        for asked in dialogue.questions:
            for way, ask in ways.items():
                share = recall(asked, ask(asked.question))
                totals[way]["all"].append(share)
                totals[way][asked.kind].append(share)
                if way == "ours" and share < 1:
                    lost.append((asked.question, asked.kind))
    turns = sum(len(dialogue.turns) for dialogue in dialogues)
    print(f"{name}: {len(dialogues)} of {turns:,} turns, {len(totals['ours']['all'])} questions, recall@{K}")
    for way, kinds in totals.items():
        print(
            f"  {way:28}",
            "  ".join(f"{kind} {100 * sum(shares) / len(shares):5.1f} %" for kind, shares in kinds.items()),
        )
    if missed:
        print(*sorted(set(lost)), sep="\n")


if __name__ == "__main__":
    main()
