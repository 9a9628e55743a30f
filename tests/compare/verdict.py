"""Whether two exporters say the same of the same containers: pure, and nothing here knows why they do not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase

from msgspec import Struct

from tests.compare.observed import Observed, Series

_ALWAYS = (-math.inf, math.inf)


class What(StrEnum):
    """In what the two differ."""

    ONLY_CADVISOR = "cAdvisor alone has the family"
    ONLY_CGWATCH = "cgwatch alone has the family"
    TYPE = "another type"
    LABELS = "other label names"
    MISSING = "series that cAdvisor alone has"
    EXTRA = "series that cgwatch alone has"
    VALUE = "another value"
    IDENTITY = "other labels of the container"


class Finding(Struct, frozen=True):
    """One difference."""

    family: str
    what: What
    whose: str
    """A container's name, a cgroup's path, or "" for the machine and for whole families."""
    detail: str
    theirs: tuple[float, float] = _ALWAYS
    """The least and the highest of cAdvisor's values."""
    ours: float | None = None
    """Of another value, ours."""


class Row(Struct, frozen=True):
    """What became of one family; the first of each pair is cAdvisor's."""

    family: str
    types: tuple[str, str]
    labels: tuple[str, str]
    series: tuple[int, int]
    compared: int
    same: int
    findings: tuple[Finding, ...]


class Tolerance(Struct, frozen=True):
    """How far two right values may be from each other, and why."""

    families: str
    """A glob."""
    absolute: float
    relative: float
    why: str
    lag_seconds: float = 0
    """How much older than its page a value of ours may be."""

    def of(self, value: float) -> float:
        """Give the slack of a value."""
        return self.absolute + self.relative * abs(value)


def compare(
    theirs: Observed, ours: Observed, tolerances: Iterable[Tolerance], *, skew_seconds: float
) -> list[Row]:
    """Compare family by family.

    The clocks are one, but an exporter says when it began to read, and not when it did: a value of ours is
    held against those of cAdvisor that are at least ``skew_seconds`` earlier and later.
    """
    tolerances = tuple(tolerances)
    return [
        _family(name, theirs, ours, tolerances, skew_seconds)
        for name in sorted(theirs.families() | ours.families())
    ]


def compare_identities(theirs: Observed, ours: Observed) -> tuple[Finding, ...]:
    """Compare the labels that say whose a series is."""
    findings = []
    for whose in sorted(theirs.identities.keys() | ours.identities.keys()):
        said = [_identities(one, whose) for one in (theirs, ours)]
        if said[0] != said[1]:
            detail = f"cAdvisor {said[0]}, cgwatch {said[1]}"
            findings.append(Finding("", What.IDENTITY, whose, detail))
    return tuple(findings)


def _identities(seen: Observed, whose: str) -> str:
    labels = {frozenset(item for item in one if item[0] != "id") for one in seen.identities.get(whose, ())}
    return " or ".join(_shown(one) for one in sorted(labels, key=sorted)) or "nothing"


def _shown(labels: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in sorted(labels)) + "}"


def _family(
    name: str, theirs: Observed, ours: Observed, tolerances: tuple[Tolerance, ...], skew_seconds: float
) -> Row:
    sides = theirs.of(name), ours.of(name)
    types = theirs.types.get(name, "") if sides[0] else "", ours.types.get(name, "") if sides[1] else ""
    labels = _label_names(sides[0]), _label_names(sides[1])
    findings: list[Finding] = []
    both = sides[0].keys() & sides[1].keys()
    if not sides[1]:
        span = _span(sides[0].values())
        detail = f"{len(sides[0])} series, values {_shown_span(span)}"
        findings.append(Finding(name, What.ONLY_CADVISOR, "", detail, span))
    elif not sides[0]:
        findings.append(Finding(name, What.ONLY_CGWATCH, "", f"{len(sides[1])} series"))
    else:
        if types[0] != types[1]:
            findings.append(Finding(name, What.TYPE, "", f"cAdvisor {types[0]}, cgwatch {types[1]}"))
        if labels[0] != labels[1]:
            findings.append(Finding(name, What.LABELS, "", f"cAdvisor {labels[0]}, cgwatch {labels[1]}"))
        for what, alone in ((What.MISSING, sides[0]), (What.EXTRA, sides[1])):
            findings += [
                _alone(what, series, alone[series]) for series in sorted(alone.keys() - both, key=_order)
            ]
    tolerance = next((one for one in tolerances if fnmatchcase(name, one.families)), None)
    wrong = []
    for series in sorted(both, key=_order):
        is_setting = series in theirs.timeless or len(sides[0][series]) == 1
        is_counter = "counter" in types and not is_setting
        rule = _Rule(is_setting, is_counter, tolerance, skew_seconds)
        finding = rule.look(series, sides[0][series], sides[1][series])
        if finding:
            wrong.append(finding)
    counts = len(sides[0]), len(sides[1])
    return Row(name, types, labels, counts, len(both), len(both) - len(wrong), (*findings, *wrong))


class _Rule(Struct, frozen=True):
    """How the values of one series are compared."""

    is_setting: bool
    is_counter: bool
    tolerance: Tolerance | None
    skew_seconds: float

    def look(self, series: Series, theirs: dict[float, float], ours: dict[float, float]) -> Finding | None:
        """Give what is wrong, if it is."""
        if self.is_setting:
            value, bounds = _last(ours), (_last(theirs), _last(theirs))
            return None if self._within(value, bounds) else self._finding(series, bounds, value)
        outside: list[tuple[tuple[float, float], float]] = []
        held = 0
        for moment, value in ours.items():
            around = self._around(theirs, moment)
            if around is not None:
                held += 1
                if not self._within(value, around):
                    outside.append((around, value))
        if not held:
            return Finding(
                series.family,
                What.VALUE,
                series.whose,
                f"{_shown(series.labels)} was not sampled often enough",
            )
        # A counter only grows, so each value has its place. What goes up and down may have peaked between.
        if not outside or (not self.is_counter and 2 * len(outside) < held):
            return None
        bounds, value = outside[-1]
        return self._finding(series, bounds, value, f" ({len(outside)} of {held} values)")

    def _around(self, theirs: dict[float, float], moment: float) -> tuple[float, float] | None:
        """Give the bounds from the last value surely before and the first surely after that moment."""
        lag_seconds = self.tolerance.lag_seconds if self.tolerance else 0
        before = [other for other in theirs if other <= moment - self.skew_seconds - lag_seconds]
        after = [other for other in theirs if other >= moment + self.skew_seconds]
        if not before or not after:
            return None
        values = [value for other, value in theirs.items() if max(before) <= other <= min(after)]
        return min(values), max(values)

    def _within(self, value: float, bounds: tuple[float, float]) -> bool:
        slack = self.tolerance.of(value) if self.tolerance else 0.0
        # Both write a double in decimal, and cAdvisor adds up whole nanoseconds where we add seconds.
        slack = max(slack, 1e-9 * abs(value))
        return bounds[0] - slack <= value <= bounds[1] + slack

    def _finding(self, series: Series, theirs: tuple[float, float], value: float, more: str = "") -> Finding:
        detail = f"{_shown(series.labels)} cAdvisor {_shown_span(theirs)}, cgwatch {value:.10g}{more}"
        return Finding(series.family, What.VALUE, series.whose, detail, theirs, value)


def _alone(what: What, series: Series, points: dict[float, float]) -> Finding:
    span = _span([points])
    return Finding(series.family, what, series.whose, f"{_shown(series.labels)} {_shown_span(span)}", span)


def _span(sides: Iterable[dict[float, float]]) -> tuple[float, float]:
    values = [value for points in sides for value in points.values()]
    return min(values), max(values)


def _shown_span(span: tuple[float, float]) -> str:
    return f"{span[0]:.10g}" if span[0] == span[1] else f"{span[0]:.10g}..{span[1]:.10g}"


def _last(points: dict[float, float]) -> float:
    return points[max(points)]


def _label_names(side: Iterable[Series]) -> str:
    return ",".join(sorted({name for series in side for name, _ in series.labels}))


def _order(series: Series) -> tuple[str, list[tuple[str, str]]]:
    return series.whose, sorted(series.labels)
