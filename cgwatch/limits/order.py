"""In which order limits are written, so that the kernel takes each and none passes through nonsense. Pure."""

from __future__ import annotations

import math

from cgwatch.cgroup.knob import Value
from cgwatch.change import Change, Key, Step
from cgwatch.limits import levels
from cgwatch.limits.goal import Goal
from cgwatch.limits.guards import Guards, both
from cgwatch.limits.pen import Pen
from cgwatch.limits.scene import Scene, is_lower, number_of, whole
from cgwatch.limits.staging import is_staged

_CHAIN = ("memory.max", "memory.high", "memory.low", "memory.min")
_MEMORY = frozenset({*_CHAIN, "memory.swap.max"})
_BANDWIDTH = frozenset({"cpu.max", "cpu.max.period", "cpu.max.burst"})
_WEIGHTS = frozenset({"cpu.idle", "cpu.weight", "cpu.shares"})
_CPUSET = ("cpuset.cpus", "cpuset.mems")
_FREEZE = "cgroup.freeze"


def steps_of(scene: Scene, goal: Goal, guards: Guards) -> tuple[Step, ...]:
    """Return every write of a goal that nothing speaks against."""
    pen = Pen(scene, scene.state)
    changed = {key: change for key, change in goal.changes.items() if change.to != change.before}
    freeze = changed.pop(_FREEZE, None)
    if freeze and not freeze.to:
        pen.set(_FREEZE, freeze.to)
    if scene.is_v2_memory:
        _memory_v2(scene, changed, pen, guards)
    else:
        _memory_v1(goal, scene, changed, pen)
    if changed.keys() & _BANDWIDTH:
        _bandwidth(scene, changed, pen)
    _weights(changed, pen)
    for key in _CPUSET:
        if key in changed:
            levels.write_cpuset(scene, key, changed[key].to, pen)
    for key, change in changed.items():
        if key not in _MEMORY | _BANDWIDTH | _WEIGHTS and key not in _CPUSET:
            pen.set(key, change.to)
    # Last: what is frozen cannot give memory back by ending.
    if freeze and freeze.to:
        pen.write(_FREEZE, {_FREEZE: freeze.to}, waits_for="frozen")
    return tuple(pen.steps)


def _memory_v2(scene: Scene, changed: dict[Key, Change], pen: Pen, guards: Guards) -> None:
    """Raise from the top of min, low, high, max, then lower from the bottom: high is never above max.

    Swap comes before the limit that is lowered, as the kernel swaps out what it pushes above it.
    """
    swap, maximum = changed.get("memory.swap.max"), changed.get("memory.max")
    lowers = maximum is not None and is_lower(maximum.to, maximum.before)
    for key in _CHAIN:
        if key in changed and not is_lower(changed[key].to, changed[key].before):
            pen.set(key, changed[key].to)
    if swap and not lowers:
        pen.set("memory.swap.max", swap.to)
    for key in ("memory.min", "memory.low", "memory.high"):
        if key in changed and is_lower(changed[key].to, changed[key].before):
            pen.set(key, changed[key].to)
    if maximum is None or not lowers:
        return
    if swap:
        pen.set("memory.swap.max", swap.to)
    high = pen.values.get("memory.high")
    stages = is_staged(scene, maximum, guards) and high is not None
    if stages:
        # It is none of the request's changes, so it has no keys.
        least = min(number_of(high) or 0, number_of(maximum.to) or 0)
        pen.write("memory.high", {"memory.high": least}, keys=(), waits_for="usage")
    pen.set("memory.max", maximum.to)
    if stages and high is not None:
        pen.write("memory.high", {"memory.high": high}, keys=())


def _memory_v1(goal: Goal, scene: Scene, changed: dict[Key, Change], pen: Pen) -> None:
    """Memory is at most memory and swap together after every write: raise that first, lower it last."""
    if not changed.keys() & {"memory.max", "memory.swap.max"}:
        return
    memory = goal.after(scene, "memory.max")
    total_before = both(scene.before("memory.max"), scene.before("memory.swap.max"))
    total = both(memory, goal.after(scene, "memory.swap.max"))
    if memory is None:
        return
    if total is None or total_before is None:  # no accounting of swap
        pen.set("memory.max", memory)
        return
    raises = not is_lower(memory, scene.before("memory.max"))
    if raises and total != total_before:
        pen.write("memory.swap.max", {"memory.swap.max": _left(total, pen.values["memory.max"])})
    if "memory.max" in changed:
        held = total if raises else total_before
        pen.write("memory.max", {"memory.max": memory, "memory.swap.max": _left(held, memory)})
    if not raises and total != total_before:
        pen.write("memory.swap.max", {"memory.swap.max": _left(total, memory)})


def _left(total: float, memory: Value) -> int | float:
    """Return what memory leaves to swap of the limit of both."""
    return math.inf if total == math.inf else int(total) - whole(memory, 0)


def _bandwidth(scene: Scene, changed: dict[Key, Change], pen: Pen) -> None:
    """Lower a burst before the quota and raise it after: it is at most the quota after every write."""
    burst = changed.get("cpu.max.burst")
    lowers_burst = burst is not None and is_lower(burst.to, burst.before)
    if burst and lowers_burst:
        pen.set("cpu.max.burst", burst.to)
    if changed.keys() & {"cpu.max", "cpu.max.period"}:
        after = {**pen.values, **{key: change.to for key, change in changed.items()}}
        quota, period = after["cpu.max"], after["cpu.max.period"]
        if scene.is_v1("cpu.max"):
            levels.write_bandwidth(scene, quota, whole(period, 0), pen)
        else:
            pen.write("cpu.max", {"cpu.max": quota, "cpu.max.period": period})
    if burst and not lowers_burst:
        pen.set("cpu.max.burst", burst.to)


def _weights(changed: dict[Key, Change], pen: Pen) -> None:
    """A cgroup that is idle takes no weight, and forgets the one that it had."""
    idle = changed.get("cpu.idle")
    weight = next((changed[key] for key in ("cpu.weight", "cpu.shares") if key in changed), None)
    if idle is None:
        if weight:
            pen.set(weight.key, weight.to)
        return
    if idle.to:
        if weight and weight.before is not None:
            # What is there is written once more, for what undoes it: the weight that the kernel forgets.
            pen.write(weight.key, {weight.key: weight.before}, keys=())
        pen.write("cpu.idle", {"cpu.idle": 1})
        return
    pen.write("cpu.idle", {"cpu.idle": 0})
    if weight:
        # Undone by being idle again.
        pen.write(weight.key, {weight.key: weight.to}, undoes=False)
