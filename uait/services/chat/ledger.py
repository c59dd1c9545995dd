"""What was used, in SQLite: added up by user, day and model, and read again in whatever grouping is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from uait.services.chat.model import Grouping, TokenUsage, UsageQuery, UsageReport, UsageRow
from uait.storage import Database
from uait.web import encode_cursor

BILLION = 1_000_000_000
"""Costs are stored as whole billionths, so that their sums are exact."""

DAYS = 31
"""Days with any use that are shown where no bounds are given."""

_SUMS = "sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(estimated), sum(cost), sum(unpriced)"


class Ledger:
    """The table of what was used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_usage(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add to what was used: (user, day, model, requests, prompt tokens, completion tokens, estimated, billionths of cost, unpriced)."""
        rows = list(rows)

        def write(connection: apsw.Connection) -> None:
            connection.executemany(
                "INSERT INTO usage (user_id, day, model, requests, prompt_tokens, completion_tokens, estimated, cost, unpriced) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, "
                "prompt_tokens = prompt_tokens + excluded.prompt_tokens, estimated = estimated + excluded.estimated, "
                "completion_tokens = completion_tokens + excluded.completion_tokens, cost = cost + excluded.cost, "
                "unpriced = unpriced + excluded.unpriced",
                rows,
            )

        await self._database.write(write)

    async def report(self, user_id: str | None, query: UsageQuery) -> UsageReport:
        """What was used.

        Args:
            user_id: by whom; None for everybody.

        Raises:
            NotFound: the cursor is not one of ours.
        """
        conditions, values = ["1"], []
        if user_id is not None:
            conditions.append("user_id = ?")
            values.append(user_id)
        if query.model is not None:
            conditions.append("model = ?")
            values.append(query.model)
        if query.start is None and query.end is None:
            where = " AND ".join(conditions)
            conditions.append(f"day IN (SELECT DISTINCT day FROM usage WHERE {where} ORDER BY day DESC LIMIT {DAYS})")
            values += values
        for bound, comparison in ((query.start, ">="), (query.end, "<=")):
            if bound is not None:
                conditions.append(f"day {comparison} ?")
                values.append(bound.isoformat())
        chosen = f"FROM usage WHERE {' AND '.join(conditions)}"
        day, user, model = (
            column if grouping in query.group else "''"
            for column, grouping in (("day", Grouping.DAY), ("user_id", Grouping.USER), ("model", Grouping.MODEL))
        )
        position = query.after()
        after = [str(part) for part in position] if isinstance(position, list) and len(position) == 3 else None

        grouped = f"SELECT {day} AS d, {user} AS u, {model} AS m, {_SUMS} {chosen} GROUP BY d, u, m"
        beyond, last = ("", []) if after is None else (_BEYOND, [after[0], *after])

        def read(connection: apsw.Connection) -> UsageReport:
            rows = connection.execute(
                f"SELECT * FROM ({grouped}) {beyond} ORDER BY d DESC, u, m LIMIT ?",
                (*values, *last, query.limit + 1),
            ).fetchall()
            sums: Any = connection.execute(f"SELECT {_SUMS} {chosen}", values).fetchone()
            _, prompt, completion, estimated, *money = (each or 0 for each in sums)
            return UsageReport(
                usage=[_row(row) for row in rows[: query.limit]],
                total=TokenUsage(prompt, completion, prompt + completion, bool(estimated)),
                cost=_cost(*money),
                next_cursor=encode_cursor(rows[query.limit - 1][:3]) if len(rows) > query.limit else None,
            )

        return await self._database.read(read)


_BEYOND = "WHERE d < ? OR (d = ? AND (u, m) > (?, ?))"


def _row(row: Any) -> UsageRow:
    day, user, model, requests, prompt, completion, estimated, *money = row
    return UsageRow(
        day=day or None,
        user_id=user or None,
        model=model or None,
        requests=requests,
        prompt_tokens=prompt,
        completion_tokens=completion,
        estimated=estimated,
        cost=_cost(*money),
    )


def _cost(billionths: int, unpriced: int) -> float | None:
    """The cost of what has a price; None where nothing has."""
    return None if unpriced and not billionths else billionths / BILLION
