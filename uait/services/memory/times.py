"""Times that people write: in the metadata of what they store, and in the questions that they ask. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import attrs

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")  # fmt: skip
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)} | {
    name[:3]: number for number, name in enumerate(_MONTHS, 1)
} | {"sept": 9}  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SEASONS = {"spring": (3, 5), "summer": (6, 8), "autumn": (9, 11), "fall": (9, 11), "winter": (12, 2)}
_NUMBERS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"a": 1, "an": 1, "couple": 2, "few": 3, "several": 4}

_MONTH = r"(?P<month>" + "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True)) + r")\.?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_CLOCK = re.compile(r"\b(?P<hour>[012]?\d):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?\s*(?P<half>[ap])?\.?m?\b", re.I)
_HOUR = re.compile(r"\b(?P<hour>1?\d)\s*(?P<half>[ap])\.?m\b", re.I)

_WRITTEN = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"\b{_YEAR}[-/.](?P<number>[01]?\d)[-/.]{_DAY}\b",
        rf"\b{_DAY}\s*(?:of\s+)?{_MONTH},?\s*(?:of\s+)?{_YEAR}\b",
        rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}\b",
        rf"\b(?P<number>[0-3]?\d)[/.-]{_DAY}[/.-]{_YEAR}\b",
    )
)


def read_moment(value: Any) -> datetime | None:
    """A time as programs and people write it: RFC 3339, Unix seconds or milliseconds, "1:56 pm on 8 May, 2023". Without a zone it is taken as UTC."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        seconds = value / 1000 if value > 1e11 else value
        return datetime.fromtimestamp(seconds, UTC) if 1e8 <= seconds <= 4e9 else None
    if not isinstance(value, str) or not 6 <= len(value) <= 100:
        return None
    return _read_text(value.strip())


@lru_cache(maxsize=4096)
def _read_text(text: str) -> datetime | None:
    if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) >= 9:
        return read_moment(float(text))
    try:
        moment = datetime.fromisoformat(text.upper().replace("Z", "+00:00") if text[:4].isdigit() else text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    for pattern in _WRITTEN:
        if match := pattern.search(text):
            day = _day(match)
            if day is not None:
                return with_clock(day, text)
    return None


def has_clock(value: Any) -> bool:
    return isinstance(value, str) and _CLOCK.search(value) is not None


def with_clock(day: datetime, text: str) -> datetime:
    match = _CLOCK.search(text) or _HOUR.search(text)
    if match is None:
        return day
    parts = match.groupdict()
    hour, minute = int(parts["hour"]), int(parts.get("minute") or 0)
    half = (parts.get("half") or "").lower()
    if half == "p" and hour < 12:
        hour += 12
    elif half == "a" and hour == 12:
        hour = 0
    return day.replace(hour=hour, minute=minute) if hour < 24 else day


def _day(match: re.Match[str]) -> datetime | None:
    parts = match.groupdict()
    month = _MONTH_NUMBERS[parts["month"].lower()] if parts.get("month") else int(parts["number"])
    day = int(parts["day"])
    if month > 12 >= day:  # 31/01/2023 instead of 01/31/2023
        month, day = day, month
    try:
        return datetime(int(parts["year"]), month, day, tzinfo=UTC)
    except ValueError:
        return None


@attrs.frozen
class Span:
    """A stretch of time, its end excluded. `yearless`: it comes every year, and only its place in the year counts."""

    start: datetime
    end: datetime
    yearless: bool = False

    def nearness(self, moment: datetime, after: timedelta) -> float:
        """How well something said at `moment` can be about this span: 1 inside; less the longer afterwards, down to 0 after `after`, because people tell of things that have been; 0 before it."""
        start, end = self.start, self.end
        if self.yearless:
            if not 1 < moment.year < 9998:
                return 0.0
            shift = moment.year - start.year
            start, end = _in_year(start, shift), _in_year(end, shift)
            if moment < start:
                start, end = _in_year(self.start, shift - 1), _in_year(self.end, shift - 1)
        if moment < start:
            return 0.0
        if moment < end:
            return 1.0
        late = (moment - end) / after
        return max(0.0, 0.6 * (1 - late)) if late < 1 else 0.0


def _in_year(moment: datetime, shift: int) -> datetime:
    try:
        return moment.replace(year=moment.year + shift)
    except ValueError:  # 29 February
        return moment.replace(year=moment.year + shift, day=28)


def spans_of(text: str, now: datetime) -> list[Span]:
    """The times that a question speaks of: "on 8 May 2023", "in June", "last summer", "two weeks ago", "yesterday"."""
    if not 1000 < now.year < 9000:
        return []
    text = text.lower()
    if not _TIMELY.search(text):
        return []
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[Span] = []
    taken: list[tuple[int, int]] = []

    def free(match: re.Match[str]) -> bool:
        if any(start < match.end() and match.start() < end for start, end in taken):
            return False
        taken.append(match.span())
        return True

    for pattern in _WRITTEN:
        found += [_days(day, 1) for match in pattern.finditer(text) if (day := _day(match)) is not None and free(match)]
    for pattern, make in _SPOKEN:
        found += [span for match in pattern.finditer(text) if free(match) and (span := make(match, today)) is not None]
    return found[:8]


def _days(start: datetime, count: int) -> Span:
    return Span(start, start + timedelta(days=count))


def _month(year: int, month: int, *, months: int = 1, yearless: bool = False) -> Span:
    last = month - 1 + months
    return Span(
        datetime(year, month, 1, tzinfo=UTC), datetime(year + last // 12, last % 12 + 1, 1, tzinfo=UTC), yearless
    )


def _named_month(match: re.Match[str], today: datetime) -> Span:
    month = _MONTH_NUMBERS[match["month"]]
    groups = match.groupdict()
    if groups.get("year"):
        return _month(int(groups["year"]), month)
    which = (groups.get("which") or "").strip()
    if which in ("last", "this", "next"):
        year = today.year + (1 if which == "next" and month <= today.month else 0)
        if which == "last" and month >= today.month:
            year -= 1
        return _month(year, month)
    return _month(today.year, month, yearless=True)


def _day_of_month(match: re.Match[str], today: datetime) -> Span | None:
    try:
        day = datetime(today.year, _MONTH_NUMBERS[match["month"]], int(match["day"]), tzinfo=UTC)
    except ValueError:
        return None
    return Span(day, day + timedelta(days=1), True)


def _season(match: re.Match[str], today: datetime) -> Span:
    first, last = _SEASONS[match["season"]]
    months = (last - first) % 12 + 1
    groups = match.groupdict()
    if groups.get("year"):
        return _month(int(groups["year"]), first, months=months)
    which = (groups.get("which") or "").strip()
    if which in ("last", "this", "next"):
        year = today.year - (1 if which == "last" and today.month <= first + months - 1 else 0)
        return _month(year + (which == "next"), first, months=months)
    return _month(today.year, first, months=months, yearless=True)


def _whole_year(match: re.Match[str], today: datetime) -> Span:
    return _month(int(match["year"]), 1, months=12)


def _relative_unit(match: re.Match[str], today: datetime) -> Span:
    step = {"last": -1, "past": -1, "previous": -1, "this": 0, "next": 1, "coming": 1}[match["which"]]
    match match["unit"]:
        case "week":
            return _days(today - timedelta(days=today.weekday() - 7 * step), 7)
        case "weekend":
            return _days(today - timedelta(days=today.weekday() - 5 - 7 * step), 2)
        case "month":
            month = today.month - 1 + step
            return _month(today.year + month // 12, month % 12 + 1)
        case "year":
            return _month(today.year + step, 1, months=12)
        case day:
            back = (today.weekday() - _DAYS.index(day)) % 7 or 7
            return _days(today + timedelta(days=-back if step < 0 else 7 - back), 1)


def _ago(match: re.Match[str], today: datetime) -> Span | None:
    word = match["count"]
    count = int(word) if word.isdigit() else _NUMBERS.get(word, 0)
    days = {"day": 1, "week": 7, "month": 30, "year": 365}[match["unit"]]
    if not 0 < count * days < 36_500:
        return None
    return Span(
        today - timedelta(days=count * days + days // 2), today - timedelta(days=count * days - max(1, days // 2))
    )


def _near(match: re.Match[str], today: datetime) -> Span:
    days = {"yesterday": -1, "today": 0, "tonight": 0, "tomorrow": 1}[match["near"]]
    return _days(today + timedelta(days=days), 1)


_TIMELY = re.compile(
    r"\d|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|spring|summer|autumn|fall|winter|last|past|previous|this|next|coming|ago|yesterday|to(?:day|night|morrow)"
)
"""One of these is in every text that any of the patterns fits; most questions have none."""

_WHICH = r"(?P<which>last|this|next)\s+"
_SPOKEN = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (rf"\b{_MONTH},?\s+(?:of\s+)?{_YEAR}\b", _named_month),
        (rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}\b", _day_of_month),
        (rf"\b{_MONTH}\s+(?P<day>[0-3]?\d)(?:st|nd|rd|th)?\b(?!:)", _day_of_month),
        (rf"\b{_WHICH}{_MONTH}\b", _named_month),
        (
            r"\b(?:in|during|since|of|by|until|early|late|mid)[\s-]+(?P<month>"
            + "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
            + r")\b",
            _named_month,
        ),
        (r"\b(?P<month>january|february|april|june|july|august|september|october|november|december)\b", _named_month),
        (rf"\b(?:{_WHICH})?(?P<season>spring|summer|autumn|fall|winter)(?:\s+(?:of\s+)?{_YEAR})\b", _season),
        (rf"\b{_WHICH}(?P<season>spring|summer|autumn|fall|winter)\b", _season),
        (r"\b(?:in|during|over|the)\s+(?:the\s+)?(?P<season>spring|summer|autumn|winter)\b", _season),
        (rf"\b(?:in|during|since|of)\s+{_YEAR}\b", _whole_year),
        (r"\b(?P<which>last|past|previous|this|next|coming)\s+(?P<unit>weekend|week|month|year|" + "|".join(_DAYS) + r")\b", _relative_unit),
        (r"\b(?P<count>\d{1,3}|" + "|".join(_NUMBERS) + r")(?:\s+of)?\s+(?P<unit>day|week|month|year)s?\s+ago\b", _ago),
        (r"\b(?P<near>yesterday|today|tonight|tomorrow)\b", _near),
    )
)  # fmt: skip
