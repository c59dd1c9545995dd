"""A context for a prompt: the best memories for a question or a conversation, with what was said around them, within a budget of tokens, each with a citation."""

from __future__ import annotations

from typing import Any

import apsw
import attrs
import orjson
from attrs import validators

from uait.llm.messages import estimate_tokens
from uait.services.memory.contexts import ContextStore
from uait.services.memory.filters import THERE, moment_asked
from uait.services.memory.history import as_it_was
from uait.services.memory.model import QUERY_CHARACTERS, ConversationContext, Memory, MemorySearch
from uait.services.memory.rows import memory_by_seq
from uait.services.memory.search import Finder
from uait.storage import Database, utc_now
from uait.web import identifier


@attrs.frozen(kw_only=True)
class AssembleRequest(MemorySearch):
    """What to put together.

    Attributes:
        conversation_id: whose context comes first; without a query its summary is what is asked. Without both, the newest memories are taken.
        token_budget: about how many tokens the text may have.
        neighbours: how many memories before and after each found one, in its session, go with it; only those that are there at the time asked for.
    """

    conversation_id: str | None = attrs.field(default=None, validator=validators.optional(identifier()))
    token_budget: int = attrs.field(default=2000, validator=validators.and_(validators.ge(16), validators.le(200_000)))
    neighbours: int = attrs.field(default=1, validator=validators.and_(validators.ge(0), validators.le(5)))


@attrs.frozen(kw_only=True)
class Citation:
    """A memory in the text. `citation` is how the text names it; `reason` is `context`, `match` or `neighbour`."""

    citation: str
    reason: str
    memory: Memory


@attrs.frozen(kw_only=True)
class AssembledContext:
    """A text for a prompt, and the memories in it, as they come there.

    Attributes:
        tokens: about how many it has.
        left_out: how many memories were found for which there was no room.
    """

    text: str
    tokens: int
    memories: list[Citation]
    left_out: int


@attrs.frozen
class _Piece:
    seq: int
    session: int
    moment: int
    place: int
    reason: str
    memory: Memory


class Assembler:
    """Puts contexts together."""

    def __init__(self, database: Database, finder: Finder, contexts: ContextStore) -> None:
        self._database = database
        self._finder = finder
        self._contexts = contexts

    async def assemble(self, user_id: str, request: AssembleRequest) -> AssembledContext:
        """Find what fits, take the best first as long as there is room, and put it in the order in which it was said.

        Raises:
            NotFound: the user has no context of this conversation.
        """
        context: ConversationContext | None = None
        if request.conversation_id is not None:
            context = await self._contexts.get(user_id, request.conversation_id)
        asked = request.query.strip() or (context.summary[:QUERY_CHARACTERS] if context else "")
        # Without anything to ask, the newest.
        found = (await self._finder.search(user_id, attrs.evolve(request, query=asked))).memories
        given = [(memory, "context") for memory in (context.memories if context else ())]
        wanted = list({memory.id: (memory, why) for memory, why in [*((m, "match") for m in found), *given]}.values())
        wanted.sort(key=lambda each: each[1] != "context")
        moment = moment_asked(request, utc_now())
        pieces = await self._database.read(
            lambda connection: _pieces(
                connection, user_id, wanted, request.neighbours, moment, as_of=request.as_of is not None
            )
        )
        return _fit(context.summary if context else "", pieces, request.token_budget)


def _pieces(
    connection: apsw.Connection,
    user_id: str,
    wanted: list[tuple[Memory, str]],
    neighbours: int,
    moment: str,
    *,
    as_of: bool,
) -> list[list[_Piece]]:
    """For each wanted memory itself, then those around it that are there at `moment`, the nearest first."""
    demands, values = THERE, [moment] * 3
    if as_of:
        demands, values = f"{THERE} AND m.created_at <= ?", [moment] * 4
    found: list[list[_Piece]] = []
    for memory, why in wanted:
        rows: list[Any] = connection.execute(
            "SELECT w.seq, w.session, w.moment, w.place FROM memory AS m JOIN memory_words AS w ON w.seq = m.seq "
            "WHERE m.user_id = ? AND m.id = ?",
            (user_id, memory.id),
        ).fetchall()
        if not rows:
            continue  # it was deleted since it was found
        seq, session, when, place = rows[0]
        group = [_Piece(seq, session, when, place, why, memory)]
        if session and neighbours:
            for sign, order in (("<", "DESC"), (">", "ASC")):
                beside: list[Any] = connection.execute(
                    "SELECT w.seq, w.session, w.moment, w.place FROM memory_words AS w CROSS JOIN memory AS m ON m.seq = w.seq "
                    f"WHERE w.session = ? AND w.session != 0 AND (w.moment, w.place, w.seq) {sign} (?, ?, ?) AND {demands} "
                    f"ORDER BY w.moment {order}, w.place {order}, w.seq {order} LIMIT ?",
                    (session, when, place, seq, *values, neighbours),
                ).fetchall()
                for row in beside:
                    other = memory_by_seq(connection, user_id, row[0])
                    if other is not None:
                        other = as_it_was(connection, other, moment) if as_of else other
                        group.append(_Piece(row[0], row[1], row[2], row[3], "neighbour", other))
        found.append(group)
    return found


def _fit(summary: str, groups: list[list[_Piece]], budget: int) -> AssembledContext:
    head = f"Summary: {summary}\n" if summary else ""
    if estimate_tokens(len(head)) > budget:
        head = head[: max(0, budget * 3)] + "…\n"
    left = budget - estimate_tokens(len(head))
    taken: dict[int, _Piece] = {}
    left_out = 0
    # Every match before any neighbour: what was found is worth more than what stands beside it.
    for piece in [group[0] for group in groups] + [piece for group in groups for piece in group[1:]]:
        if piece.seq in taken:
            continue
        cost = estimate_tokens(len(_line(0, piece)) + 4)
        if cost > left:
            left_out += piece.reason != "neighbour"
            continue
        left -= cost
        taken[piece.seq] = piece
    in_order = sorted(taken.values(), key=lambda piece: (piece.moment, piece.session, piece.place, piece.seq))
    text = head + "".join(_line(number, piece) for number, piece in enumerate(in_order, 1))
    return AssembledContext(
        text=text,
        tokens=estimate_tokens(len(text)),
        memories=[
            Citation(citation=f"[{number}]", reason=piece.reason, memory=piece.memory)
            for number, piece in enumerate(in_order, 1)
        ],
        left_out=left_out,
    )


def _line(number: int, piece: _Piece) -> str:
    when = (piece.memory.occurred_at or piece.memory.created_at)[:10]
    content = (
        orjson.dumps(piece.memory.content).decode()[1:-1] if "\n" in piece.memory.content else piece.memory.content
    )
    return f"[{number}] ({when}) {content}\n"
