"""Limits that v1 checks against the cgroups above and below: CPU bandwidth and cpusets. Pure.

v1 refuses a child that may use more than its parent, whichever of the two is written. What stands above is
not ours to change, so it is a refusal that names it; what is below is lowered along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knob_values import format_numbers, format_value
from cgwatch.cgroup.knobs import LEAST_QUOTA_MICROSECONDS
from cgwatch.change import CgroupState, Key, Refusal
from cgwatch.limits.effective import period_of
from cgwatch.limits.goal import Goal
from cgwatch.limits.pen import Pen
from cgwatch.limits.scene import Scene, number_of, whole
from cgwatch.oom.state import is_within, lineage

_RATIO_BITS = 20
"""The kernel compares quotas for their periods in fractions of 2^-20 (kernel/sched/sched.h, BW_SHIFT)."""


def ratio_of(quota: Value | None, period: int) -> int | float:
    """Return what the kernel compares; ``math.inf``: no quota."""
    value = number_of(quota)
    return math.inf if value is None or value == math.inf else (int(value) << _RATIO_BITS) // period


def _ratio(state: CgroupState) -> int | float:
    return ratio_of(state.values.get("cpu.max"), period_of(state))


def refusals(scene: Scene, goal: Goal) -> Iterator[Refusal]:
    """Yield what the kernel would refuse because of a cgroup above, or of one below that cannot follow."""
    if scene.is_v1("cpu.max") and goal.changes.keys() & {"cpu.max", "cpu.max.period"}:
        yield from _bandwidth(scene, goal)
    for key in ("cpuset.cpus", "cpuset.mems"):
        change = goal.changes.get(key)
        if change is not None and scene.is_v1(key) and change.to != change.before:
            yield from _cpuset(scene, key, str(change.to))


def _bandwidth(scene: Scene, goal: Goal) -> Iterator[Refusal]:
    quota = goal.after(scene, "cpu.max")
    period = whole(goal.after(scene, "cpu.max.period"), period_of(scene.state))
    ratio = ratio_of(quota, period)
    key = "cpu.max" if "cpu.max" in goal.changes else "cpu.max.period"
    for above in scene.above if ratio < math.inf else ():
        if ratio > _ratio(above):
            most = _quota_within(_ratio(above), period)
            yield Refusal(
                key,
                f"{above.path} above it has {format_value('cpu.max', above.values['cpu.max'])} for each "
                f"{format_value('cpu.max.period', period_of(above))}, and cgroup v1 lets nobody below have "
                f"more; allow more there, or at most {format_value('cpu.max', most)} here",
            )
            return
    for below in scene.below:
        if (
            ratio < _ratio(below) < math.inf
            and _quota_within(ratio, period_of(below)) < LEAST_QUOTA_MICROSECONDS
        ):
            yield Refusal(
                key,
                f"{below.path} below it has a period of {format_value('cpu.max.period', period_of(below))}, "
                "in which so little is less than the kernel's least of 1ms; give it a longer period first",
            )


def _quota_within(ratio: float, period: int) -> int:
    """Return the largest quota whose ratio is at most this one."""
    return ((int(ratio) + 1) * period - 1) >> _RATIO_BITS


def write_bandwidth(scene: Scene, quota: Value, period: int, pen: Pen) -> None:
    """Write quota and period of a v1 cgroup, and lower those below that would have more.

    Of the two orders the one is taken that stays between old and new. Where there is none (both are raised,
    or both lowered), the one that is above both for a moment, if the cgroups above allow that; else the quota
    is gone for that moment, and those above bound it.
    """
    before, was_quota, was_period = _ratio(scene.state), pen.values["cpu.max"], period_of(scene.state)
    after = ratio_of(quota, period)
    for below in scene.below:
        if after < _ratio(below) < math.inf:
            _lower(scene, below, after, pen)
    if quota == was_quota or period == was_period:
        pen.set(*(("cpu.max", quota) if period == was_period else ("cpu.max.period", period)))
        return
    allowed = min((_ratio(above) for above in scene.above), default=math.inf)
    least, most = min(before, after), max(before, after)
    quota_first, period_first = ratio_of(quota, was_period), ratio_of(was_quota, period)
    middles = [(quota_first, "quota"), (period_first, "period")]
    inside = [
        first
        for middle, first in middles
        if least <= middle <= most and (middle <= allowed or middle == math.inf)
    ]
    over = [first for middle, first in sorted(middles) if most < middle <= allowed]
    first = next(iter(inside + over), "none")
    if first == "none":
        pen.write("cpu.max", {"cpu.max": math.inf}, keys=())
    if first == "quota":
        pen.set("cpu.max", quota)
    pen.set("cpu.max.period", period)
    if first != "quota":
        pen.set("cpu.max", quota)


def _lower(scene: Scene, below: CgroupState, ratio: float, pen: Pen) -> None:
    own = Pen(scene, below)
    quota = _quota_within(ratio, period_of(below))
    if whole(below.values.get("cpu.max.burst"), 0) > quota:
        own.write("cpu.max.burst", {"cpu.max.burst": quota}, keys=())
    own.write("cpu.max", {"cpu.max": quota}, keys=())
    pen.steps += own.steps


def _cpuset(scene: Scene, key: Key, wanted: str) -> Iterator[Refusal]:
    numbers = numbers_of(wanted)
    what = "CPUs" if key == "cpuset.cpus" else "memory nodes"
    if not numbers and (scene.state.processes or any(below.values.get(key) for below in scene.below)):
        yield Refusal(
            key,
            f"it has processes or cgroups below it, which need some {what}; cgroup v1 takes no empty list",
        )
        return
    for above in scene.above:
        has = above.values.get(key)
        if isinstance(has, str) and not numbers <= numbers_of(has):
            yield Refusal(
                key,
                f"{above.path} above it has {has or 'none'}, and cgroup v1 lets nobody below have others; "
                f"give it {format_numbers(numbers - numbers_of(has))} first, or ask for less",
            )
            return


def write_cpuset(scene: Scene, key: Key, wanted: Value, pen: Pen) -> None:
    """Write a list of CPUs or memory nodes.

    v1: what those below have lies within it after every write, so it first becomes the old and the new list
    together, then they follow, then it is narrowed. One that would have nothing left gets all that the one
    above it gets, as v2 does it by itself.
    """
    if not scene.is_v1(key):
        pen.set(key, wanted)
        return
    old, new = numbers_of(str(pen.values[key])), numbers_of(str(wanted))
    losing = [below for below in scene.below if numbers_of(str(below.values.get(key, ""))) - new]
    if losing and old | new != old:
        pen.write(key, {key: format_numbers(old | new)}, keys=())
    pens = {below.path: Pen(scene, below) for below in losing}
    targets = {scene.state.path: new}
    # The upper ones are widened before those in them, and narrowed after.
    for below in reversed(losing):
        old = numbers_of(str(below.values[key]))
        of_above = next(targets[path] for path in lineage(below.path)[1:] if path in targets)
        target = targets[below.path] = (old & of_above) or of_above
        holds = any(is_within(other.path, below.path) for other in losing if other is not below)
        if holds and not target <= old:
            pen.steps += pens[below.path].written(key, format_numbers(old | target))
    for below in losing:
        pen.steps += pens[below.path].written(key, format_numbers(targets[below.path]))
    pen.set(key, wanted)
