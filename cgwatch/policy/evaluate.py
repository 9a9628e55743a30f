"""Conditions against the history: true, untrue, or not known. Pure.

``for`` counts from the first moment of an unbroken row in which a condition was true; a moment in which it
cannot be told breaks the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from cgwatch.oom.kill import Cause
from cgwatch.policy.rules import Condition, Join
from cgwatch.policy.situation import Host, Situation
from cgwatch.policy.terms import METRICS, format_measure
from cgwatch.units import format_duration

Truth: TypeAlias = bool | None
Trail: TypeAlias = tuple[tuple[float, float], ...]

WORKING_SET = "memory.working_set"
GROWTH = frozenset({"memory.growth", "memory.time_to_limit"})
_COVERED = 0.9
"""Of a window has to be seen before its growth is told."""


class Look:
    """One container at one moment, as conditions look at it; collects what has held since when."""

    __slots__ = ("before", "held", "host", "missing", "now", "situation", "trail", "values")

    def __init__(
        self, now: float, situation: Situation, host: Host, before: Mapping[int, float], trail: Trail
    ) -> None:
        self.now = now
        self.situation = situation
        self.values = situation.values
        self.host = host
        self.before = before
        self.trail = trail
        self.held: dict[int, float] = {}
        self.missing: set[str] = set()

    def value(self, metric: str, window_seconds: float) -> float | None:
        """Return a metric's value; ``None``: not known."""
        if not window_seconds:
            return (self.host.values if metric.startswith("host.") else self.values).get(metric)
        if metric in GROWTH:
            growth = self._growth(window_seconds)
            return growth if metric == "memory.growth" or growth is None else self._time_to_limit(growth)
        kills = self.situation.kills
        if kills is None:
            return None
        first = self.now - window_seconds
        return sum(first < kill.seconds <= self.now and kill.cause is not Cause.LIMIT_WRITE for kill in kills)

    def _growth(self, window_seconds: float) -> float | None:
        size = self.values.get(WORKING_SET)
        first = next((each for each in self.trail if each[0] >= self.now - window_seconds), None)
        if size is None or first is None or self.now - first[0] < window_seconds * _COVERED:
            return None
        return (size - first[1]) / (self.now - first[0])

    def _time_to_limit(self, growth: float) -> float | None:
        limit = self.situation.present("memory.max")
        if limit is None or isinstance(limit, str):
            return None
        if growth <= 0 or limit == math.inf:
            return math.inf
        return max(limit - self.values[WORKING_SET], 0) / growth


Check: TypeAlias = Callable[[Look], Truth]


def compiled(condition: Condition) -> Check:
    """Make a function of a condition."""
    match condition.join:
        case Join.METRIC:
            check = _comparison(condition)
        case Join.NOT:
            check = _negation(compiled(condition.parts[0]))
        case Join.ALL:
            check = _group(condition, decisive=False)
        case Join.ANY:
            check = _group(condition, decisive=True)
    return _lasting(check, condition) if condition.for_seconds else check


def _comparison(condition: Condition) -> Check:
    metric, above, below, window = (
        condition.metric,
        condition.above,
        condition.below,
        condition.window_seconds,
    )
    bounded = below < math.inf
    of_container = not window and not metric.startswith("host.")

    def check(look: Look) -> Truth:
        value = look.values.get(metric) if of_container else look.value(metric, window)
        if value is None:
            look.missing.add(metric)
            return None
        return value > above and (not bounded or value < below)

    return check


def _negation(inner: Check) -> Check:
    def check(look: Look) -> Truth:
        truth = inner(look)
        return None if truth is None else not truth

    return check


def _group(condition: Condition, *, decisive: bool) -> Check:
    """One part that is ``decisive`` is enough; of all others one that is not known leaves it open."""
    checks = tuple(map(compiled, condition.parts))
    if not any(map(_lasts, condition.parts)):

        def brief(look: Look) -> Truth:
            known = True
            for check in checks:
                truth = check(look)
                if truth is decisive:
                    return decisive
                known = known and truth is not None
            return not decisive if known else None

        return brief

    def thorough(look: Look) -> Truth:
        truths = [check(look) for check in checks]  # each has to see every moment
        if decisive in truths:
            return decisive
        return None if None in truths else not decisive

    return thorough


def _lasts(condition: Condition) -> bool:
    return bool(condition.for_seconds) or any(map(_lasts, condition.parts))


def _lasting(inner: Check, condition: Condition) -> Check:
    number, for_seconds = condition.number, condition.for_seconds

    def check(look: Look) -> Truth:
        truth = inner(look)
        if not truth:
            return truth
        since = look.held[number] = look.before.get(number, look.now)
        return look.now - since >= for_seconds

    return check


def in_words(condition: Condition, look: Look) -> str:
    """Say what a condition found: ``memory.usage.ratio is 95%, above 90% for 30s``."""
    lasting = f" for {format_duration(condition.for_seconds)}" if condition.for_seconds else ""
    match condition.join:
        case Join.METRIC:
            return _compared(condition, look) + lasting
        case Join.NOT:
            return f"not ({in_words(condition.parts[0], look)}){lasting}"
        case Join.ALL:
            return ", and ".join(in_words(part, look) for part in condition.parts) + lasting
        case Join.ANY:
            parts = [part for part in condition.parts if compiled(part)(look)] or condition.parts
            return ", or ".join(in_words(part, look) for part in parts) + lasting


def _compared(condition: Condition, look: Look) -> str:
    measure = METRICS[condition.metric].measure
    value = look.value(condition.metric, condition.window_seconds)
    window = f" over {format_duration(condition.window_seconds)}" if condition.window_seconds else ""
    if value is None:
        return f"{condition.metric}{window} is not known"
    shown = "never" if value == math.inf else format_measure(measure, value)
    sides = [
        f"{word} {format_measure(measure, bound)}"
        for word, bound in (("above", condition.above), ("below", condition.below))
        if math.isfinite(bound)
    ]
    return f"{condition.metric}{window} is {shown}, {' and '.join(sides)}"


def extended(trail: Trail, now: float, size: float | None, windows: tuple[float, float]) -> Trail:
    """Return a trail with one moment more: some thirty in the shortest window, back to the longest."""
    shortest, longest = windows
    spacing = shortest / 30
    if size is None or (trail and 0 <= now - trail[-1][0] < spacing):
        return trail
    return (*(each for each in trail if now - longest - spacing <= each[0] < now), (now, size))
