"""What becomes of many measured values: percentiles and slopes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], ratio: float) -> float:
    """Return the least value that is not below ``ratio`` (0..1) of all: the nearest rank, never in between.

    Of few values the 99th percentile is the greatest. ``ValueError`` without any value.
    """
    if not values:
        raise ValueError("no values: there is no percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(ratio * len(ordered)) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return how much y grows with each x, by least squares; ``None`` of fewer than two different x."""
    if len({x for x, _ in points}) < 2:  # noqa: PLR2004 - a line has two points
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    squares = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / squares


def parts(whole: tuple[float, float, int], scrapes: tuple[float, float, int]) -> tuple[float, float]:
    """Return the cost of a second without scrapes, and the cost of one scrape.

    Both arguments are (CPU seconds, seconds, number of scrapes) of the same process: what it costs besides
    is the same in both, and only the number of scrapes differs.
    """
    cpu, seconds, number = whole
    other_cpu, other_seconds, other_number = scrapes
    determinant = seconds * other_number - other_seconds * number
    if not determinant:
        raise ValueError("both were scraped equally often: the cost of a scrape cannot be told")
    return (
        (cpu * other_number - other_cpu * number) / determinant,
        (seconds * other_cpu - other_seconds * cpu) / determinant,
    )
