from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

from uait.storage import format_time, new_id, utc_now


def test_ids_are_version_7_and_sort_by_time():
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)


def test_times_have_one_width_so_that_texts_sort_as_times_do():
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 12, 31, tzinfo=UTC),
        datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 11, 22, tzinfo=UTC),
        datetime(2026, 11, 22, 0, 0, 0, 1),
    ]
    texts = [format_time(moment) for moment in moments]
    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1
    assert texts[2] == "2026-11-21T23:00:00.000000Z"
    assert utc_now().endswith("Z")
