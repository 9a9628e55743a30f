"""Conditions as they are written, to conditions. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TypeVar

from cgwatch.errors import CgwatchError, ConfigError, LimitValueError
from cgwatch.policy import written
from cgwatch.policy.rules import Condition, Join
from cgwatch.policy.spot import Spot
from cgwatch.policy.terms import METRICS, Measure, Metric, near_metrics, parse_threshold
from cgwatch.units import parse_duration, shortened

T = TypeVar("T")
MOST_SECONDS = 7 * 86400.0
"""No ``for``, window, cooldown or time to live is longer."""


def read(spot: Spot, parse: Callable[[str], T]) -> T:
    """Return what ``parse`` makes of a scalar. Raises ``ConfigError`` with its place."""
    try:
        return parse(spot.text)
    except LimitValueError as error:
        raise spot.error(error.problem) from error
    except ConfigError:
        raise
    except CgwatchError as error:
        raise spot.error(str(error)) from error


def seconds_of(spot: Spot, name: str, default: float) -> float:
    """Return a duration below ``spot``; it is more than 0 and at most seven days."""
    if not spot.has(name) or spot.at(name).placed.value is None:
        return default
    value = read(spot.at(name), parse_duration)
    if not 0 < value <= MOST_SECONDS:
        raise spot.at(name).error(
            f"{shortened(spot.at(name).text)} is not more than 0s and at most 7d; correct it"
        )
    return value


class Conditions:
    """Reads conditions and numbers them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def read(self, spot: Spot, when: written.When) -> Condition:
        """Return one condition. Raises ``ConfigError``."""
        joins = {Join.METRIC: when.metric, Join.ALL: when.all, Join.ANY: when.any, Join.NOT: when.not_}
        given = [join for join, value in joins.items() if value is not None]
        if len(given) != 1:
            raise spot.error("write exactly one of metric, all, any and not")
        if given[0] is Join.METRIC:
            return self._comparison(spot, str(when.metric))
        for name in ("above", "below", "window"):
            if spot.has(name):
                raise spot.at(name).error(f"{name} goes with metric; write it inside of {given[0]}")
        parts: list[Condition] = []
        if given[0] is Join.NOT and when.not_ is not None:
            parts.append(self.read(spot.at("not"), when.not_))
        for index, part in enumerate(when.all or when.any or ()):
            parts.append(self.read(spot.at(given[0].value, index), part))
        if not parts:
            raise spot.at(given[0].value).error(
                "is empty, so it never says anything; write a condition in it"
            )
        return Condition(
            next(self._numbers), given[0], tuple(parts), for_seconds=seconds_of(spot, "for", 0.0)
        )

    def _comparison(self, spot: Spot, name: str) -> Condition:
        metric = METRICS.get(name)
        if metric is None:
            near = near_metrics(name)
            advice = f"is it {' or '.join(near)}?" if near else "cgwatch policy schema --metrics lists them"
            raise spot.at("metric").error(f"there is no metric {shortened(name)}; {advice}")
        bounds = {
            side: read(spot.at(side), lambda text: parse_threshold(metric.measure, text))
            for side in ("above", "below")
            if spot.has(side)
        }
        if not bounds:
            raise spot.error(f"compares {name} with nothing; add above or below")
        above, below = bounds.get("above", -math.inf), bounds.get("below", math.inf)
        if above >= below:
            raise spot.at("below").error(
                f"is at most above ({spot.at('above').text}), so it never holds; write a larger one"
            )
        return Condition(
            next(self._numbers),
            Join.METRIC,
            metric=name,
            above=above,
            below=below,
            window_seconds=_window(spot, metric),
            for_seconds=seconds_of(spot, "for", 0.0),
        )


def _window(spot: Spot, metric: Metric) -> float:
    if metric.window and not spot.has("window"):
        raise spot.error(f"{metric.name} is over a time; add window, such as window: 10m")
    if not metric.window and spot.has("window"):
        raise spot.at("window").error(f"{metric.name} is of one moment and has no window; use for")
    return seconds_of(spot, "window", 0.0)


def check_hysteresis(when: Condition, clear: Condition, spot: Spot) -> None:
    """Refuse a ``clear`` without a distance to ``when``. Raises ``ConfigError``.

    Of each metric that both compare, the level that ends the rule has to be beyond the one that begins it.
    """
    starts = {(leaf.metric, leaf.window_seconds): leaf for leaf in leaves(when)}
    for leaf in leaves(clear):
        start = starts.get((leaf.metric, leaf.window_seconds))
        if start is None or _is_between(start) or _is_between(leaf):
            continue
        is_over = start.above > -math.inf
        if is_over == (leaf.above > -math.inf):
            raise spot.error(f"looks at {leaf.metric} from the same side as when; write the other side")
        distance = start.above - leaf.below if is_over else leaf.above - start.below
        # Of counts, above 0 and below 1 have nothing between them and nothing in common.
        is_count = METRICS[leaf.metric].measure is Measure.COUNT
        if distance < -1 if is_count else distance <= 0:
            raise spot.error(
                f"ends at a level of {leaf.metric} at which the rule begins, so it would go on and off; "
                f"write clear {'below' if is_over else 'above'} when"
            )


def _is_between(leaf: Condition) -> bool:
    return leaf.above > -math.inf and leaf.below < math.inf


def leaves(condition: Condition) -> list[Condition]:
    """Return the comparisons of a condition that are not inside of a ``not``."""
    if condition.join is Join.METRIC:
        return [condition]
    if condition.join is Join.NOT:
        return []
    return [leaf for part in condition.parts for leaf in leaves(part)]


def metrics_of(condition: Condition) -> set[str]:
    """Return every metric that a condition looks at."""
    return {condition.metric} - {""} | {name for part in condition.parts for name in metrics_of(part)}
