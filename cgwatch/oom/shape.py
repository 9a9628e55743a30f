"""How memory grew before a kill: suddenly, steadily, or not at all. Pure.

What counts is the *need*: usage without the page cache that could be dropped, as the kernel drops it before
it kills, and what lies in swap: a leak goes on there while the usage stands at the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from msgspec import Struct, structs

from cgwatch.oom.history import Point

_SUDDEN_SECONDS = 30.0
_LONG_SECONDS = 60.0
_FEW_POINTS = 6
_SUDDEN_RATIO = 0.25
"""Of the limit: so much in ``_SUDDEN_SECONDS`` is a spike."""
_STEADY_RATIO = 0.05
"""Of the limit: growth of less is none."""
_NEAR_RATIO = 0.85
"""Of the limit: a need that never went below it stood at the limit."""
_STRAIGHT = 0.8
"""Of the variance: so much a straight line must explain."""


class Shape(StrEnum):
    """How it came to the kill."""

    SPIKE = "spike"
    """It grew by a quarter of the limit or more within the last half minute, far faster than before."""
    GROWTH = "growth"
    """It grew steadily, as by a leak or a cache without a bound."""
    PLATEAU = "plateau"
    """It stood near the limit all the time: the limit is too small for what it does."""
    UNKNOWN = "unknown"


class Growth(Struct, frozen=True):
    """The need over time, up to the kill."""

    shape: Shape
    window_seconds: float
    """From the first sample that is kept to the kill."""
    first_bytes: int
    last_bytes: int
    """At the last sample."""
    highest_bytes: int
    unseen_seconds: float
    """From the last sample to the kill."""
    bytes_per_second: float | None = None
    """The straight line through the samples; ``None``: too few of them."""
    straightness: float | None = None
    """How much of the variance the line explains, 0..1."""
    sudden_bytes: int | None = None
    """A spike's growth."""
    sudden_seconds: float | None = None
    """In which a spike grew, at most."""


def need(point: Point) -> int | None:
    """Return usage and swap without the droppable page cache, as far as the kernel tells them apart."""
    if point.usage_bytes is None:
        return None
    cache = (point.file_bytes or 0) - (point.shmem_bytes or 0)
    return max(0, point.usage_bytes - max(0, cache)) + (point.swap_bytes or 0)


def growth_of(points: Sequence[Point], moment_seconds: float, limit_bytes: int | None) -> Growth | None:
    """Say how the need grew; ``None`` without a sample.

    ``moment_seconds``: of the kill. ``limit_bytes``: of the limit that was hit by these points' cgroup,
    so that its need had come near it at the kill; ``None``: not known, or it was another's.
    """
    needs = [(point.seconds, used) for point in points if (used := need(point)) is not None]
    if not needs:
        return None
    first_seconds, first = needs[0]
    last_seconds, last = needs[-1]
    moment_seconds = max(moment_seconds, last_seconds)
    slope, straightness = _line(needs)
    growth = Growth(
        shape=Shape.UNKNOWN,
        window_seconds=moment_seconds - first_seconds,
        first_bytes=first,
        last_bytes=last,
        highest_bytes=max(used for _, used in needs),
        unseen_seconds=moment_seconds - last_seconds,
        bytes_per_second=slope,
        straightness=straightness,
    )
    return _shaped(growth, needs, moment_seconds, limit_bytes)


def _shaped(
    growth: Growth, needs: list[tuple[float, int]], moment_seconds: float, limit_bytes: int | None
) -> Growth:
    scale = limit_bytes or growth.highest_bytes
    end = max(limit_bytes or 0, growth.last_bytes)
    # The latest of the samples that lie half a minute back, or else the first there is.
    since_seconds, since = next(
        (each for each in reversed(needs) if each[0] <= moment_seconds - _SUDDEN_SECONDS), needs[0]
    )
    rises = [
        (end - used, moment_seconds - seconds)
        for seconds, used in needs
        if seconds >= since_seconds
        and moment_seconds - seconds <= 2 * _SUDDEN_SECONDS
        and end - used >= _SUDDEN_RATIO * scale
    ]
    before_rate = max(0.0, (since - needs[0][1]) / max(since_seconds - needs[0][0], 1.0))
    if rises and scale:
        # The steepest: with a second added, so that of a long rise it is all of it.
        sudden, sudden_seconds = max(rises, key=lambda rise: rise[0] / (rise[1] + 1))
        if sudden / max(sudden_seconds, 1.0) > 2 * before_rate:
            return structs.replace(
                growth, shape=Shape.SPIKE, sudden_bytes=sudden, sudden_seconds=sudden_seconds
            )
    for part in _long_parts(needs):
        shape = _shape_of(part, scale, is_limit=limit_bytes is not None)
        if shape is not Shape.UNKNOWN:
            slope, straightness = _line(part)
            return structs.replace(
                growth,
                shape=shape,
                window_seconds=moment_seconds - part[0][0],
                first_bytes=part[0][1],
                bytes_per_second=slope,
                straightness=straightness,
            )
    return growth


def _long_parts(needs: list[tuple[float, int]]) -> Iterator[list[tuple[float, int]]]:
    """Give all samples, and then fewer of the first ones, which may show how it started and nothing else."""
    for start in range(max(1, len(needs) // 2)):
        part = needs[start:]
        if part[-1][0] - part[0][0] < _LONG_SECONDS or len(part) < _FEW_POINTS:
            return
        yield part


def _shape_of(part: list[tuple[float, int]], scale: float, *, is_limit: bool) -> Shape:
    slope, straightness = _line(part)
    if slope is None or straightness is None:
        return Shape.UNKNOWN
    rise = slope * (part[-1][0] - part[0][0])
    if rise >= _STEADY_RATIO * scale and straightness >= _STRAIGHT:
        return Shape.GROWTH
    is_near = min(used for _, used in part) >= _NEAR_RATIO * scale
    return Shape.PLATEAU if is_limit and is_near and abs(rise) < _STEADY_RATIO * scale else Shape.UNKNOWN


def _line(needs: Sequence[tuple[float, int]]) -> tuple[float | None, float | None]:
    """Return slope and explained variance of the straight line through the points (least squares)."""
    count = len(needs)
    if count < 2:  # noqa: PLR2004 - a line takes two points
        return None, None
    mean_seconds = sum(seconds for seconds, _ in needs) / count
    mean = sum(used for _, used in needs) / count
    spread_seconds = sum((seconds - mean_seconds) ** 2 for seconds, _ in needs)
    spread = sum((used - mean) ** 2 for _, used in needs)
    if not spread_seconds:
        return None, None
    together = sum((seconds - mean_seconds) * (used - mean) for seconds, used in needs)
    return together / spread_seconds, together**2 / (spread_seconds * spread) if spread else 0.0
