from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import UnitError
from cgwatch.policy.schedule import Schedule, parse_cron, parse_zone

BERLIN = ZoneInfo("Europe/Berlin")
YEAR = 2025
"""Its clock skips 02:00 to 03:00 on 30 March, and has 02:00 to 03:00 twice on 26 October."""
BEGIN = datetime(YEAR, 1, 1, tzinfo=UTC)
MINUTES = 365 * 24 * 60


def plain_has(text: str, local: datetime) -> bool:
    """Whether an expression of numbers, ranges and steps names a minute: field by field."""
    minute, hour, day, month, weekday = text.split()

    def named(field: str, value: int, least: int, most: int) -> bool:
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            low = least if span == "*" else int(first)
            high = most if span == "*" or (step and not last) else int(last or first)
            if low <= value <= high and (value - low) % int(step or 1) == 0:
                return True
        return False

    by_day = named(day, local.day, 1, 31)
    by_weekday = named(weekday, local.isoweekday() % 7, 0, 6)
    both = day[0] == "*" or weekday[0] == "*"
    return (
        named(minute, local.minute, 0, 59)
        and named(hour, local.hour, 0, 23)
        and named(month, local.month, 1, 12)
        and (by_day and by_weekday if both else by_day or by_weekday)
    )


def wall_at(n: int) -> datetime:
    """Return what the clock on the wall in Berlin shows in a minute."""
    return (BEGIN + timedelta(minutes=n)).astimezone(BERLIN)


@functools.cache
def walls() -> list[datetime]:
    """Return what it shows in every minute of the year."""
    return [wall_at(n) for n in range(MINUTES)]


@pytest.mark.parametrize(
    "text",
    ["* 8-17 * * 1-5", "* 2 * * *", "* * 1,15 * 0", "* */7 * 3-10/2 *", "* 0,22-23 30 3 6"],
)
def test_every_minute_of_a_year_is_in_force_as_its_clock_says(text: str) -> None:
    schedule = Schedule(parse_cron(text), "Europe/Berlin")

    for n, wall in enumerate(walls()):
        if n % 7 == 0 or (wall.month in {3, 10} and wall.day > 24):
            assert schedule.in_force(BEGIN.timestamp() + 60 * n) == plain_has(text, wall), wall


def plain_openings(text: str) -> list[int]:
    """Return the minutes since the year's begin in which windows open, going over all that the wall shows.

    What the clock skips comes at the first minute after, what comes twice counts once.
    """
    openings = []
    seen: set[datetime] = set()
    before = wall_at(-1).replace(tzinfo=None)
    for n, wall in enumerate(walls()):
        shown = wall.replace(tzinfo=None)
        skipped = before + timedelta(minutes=1)
        opens = shown not in seen and plain_has(text, shown)
        while skipped < shown and (shown - before) < timedelta(hours=2):
            opens = opens or plain_has(text, skipped)
            skipped += timedelta(minutes=1)
        if opens:
            openings.append(n)
        if wall.month == 10:
            seen.add(shown)
        before = shown
    return openings


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("0 22 * * 1-5", 480),
        ("30 2 * * *", 60),
        ("15 2 30 3 *", 45),
        ("*/20 2 26 10 *", 10),
        ("0 6 1 * 0", 2000),
    ],
)
def test_a_window_of_a_year_is_open_for_as_long_as_it_says_also_when_the_clock_is_changed(
    text: str, minutes: int
) -> None:
    schedule = Schedule(parse_cron(text), "Europe/Berlin", minutes * 60.0)
    is_open = [False] * (MINUTES + minutes)
    for opening in plain_openings(text):
        is_open[opening : opening + minutes] = [True] * minutes
    edges = [n for n in range(minutes + 1, MINUTES) if is_open[n] != is_open[n - 1]]
    looked_at = {n + d for n in edges for d in (-1, 0, 1)} | set(range(minutes, MINUTES, 113))

    assert edges
    for n in sorted(looked_at):
        assert schedule.in_force(BEGIN.timestamp() + 60 * n) == is_open[n], wall_at(n)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(1, 12))
def test_names_are_the_numbers(moment: datetime, month: int) -> None:
    names = "jan feb mar apr may jun jul aug sep oct nov dec".split()

    assert parse_cron(f"5 * * {names[month - 1]} mon").has(moment) == parse_cron(f"5 * * {month} 1").has(
        moment
    )
    assert parse_cron("* * * * 7").has(moment) == parse_cron("* * * * SUN").has(moment)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * *", "has 4 fields"),
        ("60 * * * *", '"60" is not a minute; write a number from 0 to 59'),
        ("* 5-2 * * *", '"5-2" goes backwards; write the hour as 2-5'),
        ("*/0 * * * *", "is not a minute of cron"),
        ("* * * mai *", '"mai" is not a month'),
        ("* * * * mon-", "is not a day of the week of cron"),
        ("* * 30 2 *", "names a day that never comes"),
    ],
)
def test_what_is_not_cron_is_told_by_its_field(text: str, words: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_cron(text)

    assert words in str(caught.value)


@given(st.text("0123456789*/-, amonsu", max_size=20))
def test_any_text_is_cron_or_an_error(text: str) -> None:
    try:
        cron = parse_cron(text)
    except UnitError:
        return
    assert cron.minutes
    assert cron.hours


@pytest.mark.parametrize(
    "name", ["", "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "a\x00b", "x" * 5000]
)
def test_what_is_no_time_zone_is_told(name: str) -> None:
    with pytest.raises(UnitError, match="no time zone"):
        parse_zone(name)
