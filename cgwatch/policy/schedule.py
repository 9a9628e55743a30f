"""When a policy or a rule is in force: cron's five fields in a time zone. Pure.

An expression opens a window at each minute that it names, for as long as ``for`` says; with ``*`` for the
minute and without ``for`` it is in force in every minute that it names. The clock is the zone's. A time that
the clock skips in spring comes at the first minute after; of a time that comes twice in autumn the first
opens. As in cron(8), of day of the month and day of the week one is enough where both are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from cgwatch.errors import UnitError
from cgwatch.units import shortened

_DAY = timedelta(days=1)
_MINUTE_SECONDS = 60
_MINUTES = 60
_NAMES = {
    "month": "jan feb mar apr may jun jul aug sep oct nov dec".split(),
    "day of the week": "sun mon tue wed thu fri sat".split(),
}
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_PART = re.compile(r"(\*|([a-z0-9]{1,3})(?:-([a-z0-9]{1,3}))?)(?:/([0-9]{1,2}))?", re.IGNORECASE)


class Cron(Struct, frozen=True):
    """The five fields as sets."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0: Sunday."""
    any_day: bool
    """The day of the month is ``*``."""
    any_weekday: bool

    @property
    def every_minute(self) -> bool:
        """Whether it names whole hours."""
        return len(self.minutes) == _MINUTES

    def has_day(self, day: date) -> bool:
        """Whether it names a minute of that day."""
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_date and by_weekday
        return by_date or by_weekday

    def has(self, local: datetime) -> bool:
        """Whether it names this minute."""
        return local.minute in self.minutes and local.hour in self.hours and self.has_day(local.date())


class Schedule(Struct, frozen=True):
    """Windows of time."""

    cron: Cron
    zone: str
    """Of the IANA database, such as ``Europe/Berlin``."""
    for_seconds: float = 0.0
    """0: the minutes themselves."""

    def in_force(self, seconds: float) -> bool:
        """Whether a window is open at that time since the epoch."""
        zone = ZoneInfo(self.zone)
        now = datetime.fromtimestamp(seconds, UTC)
        if not self.for_seconds:
            return self.cron.has(now.astimezone(zone))
        first = (now - timedelta(seconds=self.for_seconds)).astimezone(zone).date()
        day = now.astimezone(zone).date()
        while day >= first - _DAY:
            if self.cron.has_day(day):
                for opened in self._openings(day, zone):
                    if 0 <= seconds - opened < self.for_seconds:
                        return True
            day -= _DAY
        return False

    def _openings(self, day: date, zone: ZoneInfo) -> Iterator[float]:
        for hour in self.cron.hours:
            for minute in self.cron.minutes:
                yield _instant(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone))


def _instant(local: datetime) -> float:
    """Seconds since the epoch; of a time that the clock skips, of the first minute after the gap."""
    seconds = local.timestamp()
    back = datetime.fromtimestamp(seconds, local.tzinfo)
    if back.replace(tzinfo=None) == local.replace(tzinfo=None):
        return seconds
    # In a gap ``fold=1`` counts by the offset after it and so comes out before it, ``fold=0`` after it.
    low, high = local.replace(fold=1).timestamp(), seconds
    before = datetime.fromtimestamp(low, local.tzinfo).utcoffset()
    while high - low > _MINUTE_SECONDS:
        middle = low + (high - low) // (2 * _MINUTE_SECONDS) * _MINUTE_SECONDS
        if datetime.fromtimestamp(middle, local.tzinfo).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def parse_cron(text: str) -> Cron:
    """Return the five fields. Raises ``UnitError`` that names the field which is wrong."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise UnitError(
            f"{shortened(text)} has {len(fields)} fields, not five: minute hour day month weekday, "
            'such as "0 22 * * *"'
        )
    minutes, hours, days, months, weekdays = (
        _field(field, *row) for field, row in zip(fields, _FIELDS, strict=True)
    )
    weekdays = frozenset(day % 7 for day in weekdays)
    cron = Cron(
        text, minutes, hours, days, months, weekdays, fields[2].startswith("*"), fields[4].startswith("*")
    )
    if not any(cron.has_day(date(2000, 1, 1) + n * _DAY) for n in range(28 * 366)):
        raise UnitError(f"{shortened(text)} names a day that never comes; correct day or month")
    return cron


def parse_zone(text: str) -> str:
    """Return the name of a time zone that there is. Raises ``UnitError``."""
    try:
        return ZoneInfo(text).key
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise UnitError(
            f"there is no time zone {shortened(text)}; write a name such as Europe/Berlin or UTC"
        ) from error


def _field(text: str, name: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        matched = _PART.fullmatch(part)
        step = int(matched[4] or 1) if matched else 0
        if matched is None or not step:
            raise UnitError(f"{shortened(part)} is not a {name} of cron; write it like *, 5, 1-5 or */10")
        first, last = least, most
        if matched[1] != "*":
            first = _number(matched[2], name, least, most)
            last = _number(matched[3], name, least, most) if matched[3] else (most if matched[4] else first)
        if last < first:
            raise UnitError(
                f"{shortened(part)} goes backwards; write the {name} as {last}-{first}, or two ranges"
            )
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, least: int, most: int) -> int:
    names = _NAMES.get(name, [])
    if text.lower() in names:
        return names.index(text.lower()) + (1 if name == "month" else 0)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise UnitError(f"{shortened(text)} is not a {name}; write a number from {least} to {most}")
    return int(text)
