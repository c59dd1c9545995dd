"""Words as the index has them, times as people write them, questions as they are read. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.services.memory.find import expression
from uait.services.memory.indexing import session_number
from uait.services.memory.metadata import moment_of, place_of, speaker_of
from uait.services.memory.question import read_question
from uait.services.memory.stemming import stem
from uait.services.memory.times import read_moment, spans_of
from uait.services.memory.words import index_words

NOW = datetime(2023, 8, 16, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "same",
    [
        "go goes went gone going", "paint paints painted painting", "child children", "buy bought buying", "lived lives living live",
        "München MUNCHEN munchen", "ﬁsh fish", "café cafe", "1,000 1000", "Ann's Ann", "книга книги книгу",
    ],
)  # fmt: skip
def test_forms_of_one_word_are_one(same):
    assert len({tuple(index_words(word)) for word in same.split()}) == 1


def test_different_words_stay_different():
    words = [
        "car",
        "care",
        "careful",
        "home",
        "house",
        "universe",
        "new",
        "news",
        "organ",
        "this",
        "thus",
        "2023",
        "2024",
    ]
    stems = [stem(word) for word in words]
    assert len(set(stems)) >= len(words) - 1
    assert index_words("a東京b") == ["a", "東", "京", "b"]
    assert index_words("***") == []


@given(st.text(max_size=200))
def test_every_text_can_be_looked_for(text):
    """Words of any text are words of the index: FTS5 takes none of them apart, and reads none as syntax."""
    connection = apsw.Connection(":memory:")
    connection.execute("""CREATE VIRTUAL TABLE t USING fts5(x, tokenize = "ascii tokenchars '_'")""")
    words = index_words(text)
    connection.execute("INSERT INTO t VALUES (?)", (" ".join(f"7_{word}" for word in words),))
    for term in read_question(text, NOW).terms:
        for variant in term.variants:
            found = connection.execute("SELECT 1 FROM t WHERE t MATCH ?", (expression(7, variant),)).fetchall()
            assert found, (text, variant)
    connection.close()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1:56 pm on 8 May, 2023", "2023-05-08T13:56:00"),
        ("12:05 am on 21 October, 2022", "2022-10-21T00:05:00"),
        ("2023/05/20 (Sat) 02:21", "2023-05-20T02:21:00"),
        ("May 8th, 2023", "2023-05-08T00:00:00"),
        ("2023-05-08", "2023-05-08T00:00:00"),
        ("2023-05-08T10:00:00+02:00", "2023-05-08T08:00:00"),
        ("2023-05-08T10:00:00Z", "2023-05-08T10:00:00"),
        ("31/01/2023", "2023-01-31T00:00:00"),
        (1683550560, "2023-05-08T12:56:00"),
        (1683550560000, "2023-05-08T12:56:00"),
        ("1683550560", "2023-05-08T12:56:00"),
    ],
)
def test_times_of_metadata(written, read):
    moment = read_moment(written)
    assert moment is not None
    assert moment.isoformat() == f"{read}+00:00"
    assert moment_of({"Session Date": written} if isinstance(written, str) else {"timestamp": written}) == moment


@pytest.mark.parametrize(
    "written", ["", "tomorrow", "13:00", "99/99/2023", True, None, [], "x" * 500, 5, 1e300, float("nan")]
)
def test_what_is_no_time(written):
    assert read_moment(written) is None


def test_date_and_clock_apart():
    assert moment_of({"date": "8 May 2023", "time": "1:56 pm"}) == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert moment_of({"k": "8 May 2023"}) is None


def test_names_of_metadata_may_be_written_in_any_way():
    day = datetime(2023, 5, 8, tzinfo=UTC)
    for name in ("session_date", "sessionDate", "Session-Date", "SESSION_DATE"):
        assert moment_of({name: "2023-05-08"}) == day
    assert len({session_number("ann", None, {name: "s"}) for name in ("session_id", "sessionId", "Session ID")}) == 1
    assert place_of({"turnIndex": 3}) == place_of({"turn-index": "D1:3"}) == 3
    assert speaker_of({"speakerName": "Ann", "x" * 2000: 1}) == "Ann"


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("What did I do on 8 May 2023?", "2023-05-08", "2023-05-09"),
        ("what happened last May", "2023-05-01", "2023-06-01"),
        ("what happened last September", "2022-09-01", "2022-10-01"),
        ("in March 2022", "2022-03-01", "2022-04-01"),
        ("last summer", "2022-06-01", "2022-09-01"),
        ("in the winter of 2021", "2021-12-01", "2022-03-01"),
        ("yesterday", "2023-08-15", "2023-08-16"),
        ("last week", "2023-08-07", "2023-08-14"),
        ("last Friday", "2023-08-11", "2023-08-12"),
        ("last year", "2022-01-01", "2023-01-01"),
        ("in 2021", "2021-01-01", "2022-01-01"),
        ("two days ago", "2023-08-14", "2023-08-15"),
    ],
)
def test_times_of_questions(question, start, end):
    (span,) = spans_of(question, NOW)
    assert (span.start.date().isoformat(), span.end.date().isoformat()) == (start, end)


def test_a_month_without_a_year_comes_every_year():
    (span,) = spans_of("Where was I in May?", NOW)
    late = timedelta(days=20)
    assert span.nearness(datetime(2019, 5, 20, tzinfo=UTC), late) == 1
    assert 0 < span.nearness(datetime(2021, 6, 5, tzinfo=UTC), late) < 1
    assert span.nearness(datetime(2021, 4, 30, tzinfo=UTC), late) == 0
    assert spans_of("You may march on", NOW) == []


@given(st.text(max_size=60), st.datetimes(timezones=st.just(UTC)))
def test_no_text_and_no_moment_breaks_it(text, now):
    for span in spans_of(text + " last may two weeks ago in june 29 february", now):
        span.nearness(now, timedelta(days=20))


def test_sessions_are_told_by_their_usual_names():
    numbers = {
        session_number("ann", None, {"session": 1}),
        session_number("ann", None, {"session": 2}),
        session_number("ann", None, {"conversation_id": "c", "session": 1}),
        session_number("bob", None, {"session": 1}),
        session_number("ann", "1", {}),
        session_number("ann", None, {}),
    }
    assert len(numbers) == 6
    assert session_number("ann", None, {"other": 1}) == 0
