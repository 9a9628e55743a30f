"""Values of limits as decisions compare them: what is looser, and what the kernel is going to show. Pure."""

from __future__ import annotations

import math

from cgwatch.cgroup.knob import Rounding, Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import Key
from cgwatch.units import parse_size

_LESS_IS_LOOSER = frozenset({"cgroup.freeze", "cpu.idle", "memory.oom.group"})


def looseness(key: Key, value: Value) -> float:
    """Return a number that grows with what a container may have; 0 for a list of CPUs."""
    if isinstance(value, str):
        return 0.0
    return -value if key in _LESS_IS_LOOSER else value


def is_relief(key: Key, before: Value, to: Value) -> bool:
    """Whether a change gives a container more."""
    return looseness(key, to) > looseness(key, before)


def is_tightening(key: Key, before: Value, to: Value) -> bool:
    """Whether a change takes something from a container."""
    return looseness(key, to) < looseness(key, before)


def shown(key: Key, value: Value, page_bytes: int) -> Value:
    """Return what the kernel makes of a value: within its range, rounded down to pages."""
    if isinstance(value, str) or value == math.inf:
        return value
    knob = knob_of(key)
    number = int(min(max(value, knob.least), knob.most))
    if knob.rounding is Rounding.PAGE:
        return number // page_bytes * page_bytes
    if knob.rounding is Rounding.HUGE_PAGE:
        size = parse_size(knob.detail.removesuffix("B"))
        return number // size * size
    return number
