"""What really bounds a cgroup: its own limit and those of all above it, together. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.knob import V2, Combine, Value
from cgwatch.cgroup.knob_values import format_numbers
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.change import CgroupState, Key, Tree
from cgwatch.oom.state import lineage


class Effective(NamedTuple):
    """A limit, and the cgroup whose it is: the lowest of those that have it."""

    value: Value | None
    """``None``: the kernel did not say."""
    path: str | None


def effective(tree: Tree, path: str, key: Key) -> Effective:
    """Return what bounds the cgroup ``path`` by ``key``.

    Of ``cpu.max`` it is a quota for the cgroup's own period, rounded down. Of weights, and of all that acts
    on one cgroup alone, it is the cgroup's own.
    """
    knob = knob_of(key)
    states = [tree.cgroups[above] for above in lineage(path) if above in tree.cgroups]
    having = [(state, state.values[key]) for state in states if key in state.values]
    if not having or having[0][0].path != path:
        return Effective(None, None)
    own = having[0][1]
    if knob.combine is Combine.NONE:
        return Effective(own, path)
    if knob.combine is Combine.INTERSECTION:
        everything = tree.node.cpus if key == "cpuset.cpus" else tree.node.memory_nodes
        return _intersection(having, everything, is_v2=tree.versions.get(knob.controller) == V2)
    if knob.combine is Combine.RATIO:
        return _least_ratio(having)
    numbers = [(state.path, value) for state, value in having if not isinstance(value, str)]
    holder, value = (
        max(numbers, key=lambda pair: pair[1])
        if knob.combine is Combine.ANY
        else min(numbers, key=lambda pair: pair[1])
    )
    return Effective(value, holder)


def _least_ratio(having: list[tuple[CgroupState, Value]]) -> Effective:
    (own, own_quota), *_ = having
    holder, least, bound = own, math.inf, 0
    for state, quota in having:
        ratio = cpus_of(state, quota)
        if ratio < least:
            holder, least, bound = state, ratio, int(quota)
    if holder is own:
        return Effective(own_quota, own.path)
    # In integers: a quota as large as the holder's, for a period as long as ours.
    return Effective(bound * period_of(own) // period_of(holder), holder.path)


def period_of(state: CgroupState) -> int:
    """Return a cgroup's ``cpu.max.period``, the kernel's default where it is not known."""
    period = state.values.get("cpu.max.period", DEFAULT_PERIOD_MICROSECONDS)
    return period if isinstance(period, int) else DEFAULT_PERIOD_MICROSECONDS


def cpus_of(state: CgroupState, quota: Value) -> float:
    """Return how many CPUs a quota is for the period of ``state``; ``math.inf``: all there are."""
    return math.inf if isinstance(quota, str) or quota == math.inf else quota / period_of(state)


def _intersection(
    having: list[tuple[CgroupState, Value]], everything: frozenset[int], *, is_v2: bool
) -> Effective:
    """From the root down, each cgroup may use what it asks for of what the one above may use.

    v2: one that asks for nothing, or for nothing of that, gets all of it. v1 lets nobody ask for more.
    """
    allowed, holder = everything, having[-1][0].path
    for state, value in reversed(having):
        wanted = numbers_of(str(value))
        left = allowed & wanted if everything else wanted
        if not left and is_v2:
            continue
        if left != allowed or wanted == allowed:
            allowed, holder = left, state.path
    return Effective(format_numbers(allowed), holder)
