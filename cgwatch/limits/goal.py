"""What every limit of a request is going to be, and of those that change along with them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct, structs

from cgwatch.cgroup.knob import Per, Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.cgroup.shares import DEFAULT_SHARES, DEFAULT_WEIGHT
from cgwatch.change import Change, Key, Refusal
from cgwatch.errors import LimitValueError, UnknownLimitError
from cgwatch.limits.normalise import normalised
from cgwatch.limits.scene import Scene, number_of

_IDLE_WEIGHTS = {"cpu.weight": 0, "cpu.shares": 3}
"""What the kernel shows of a cgroup that is idle (kernel/sched/sched.h, WEIGHT_IDLEPRIO)."""
_DEFAULT_WEIGHTS = {"cpu.weight": DEFAULT_WEIGHT, "cpu.shares": DEFAULT_SHARES}


class Goal(Struct, frozen=True):
    """Changes by key, what is so already among them; and what cannot be."""

    changes: Mapping[Key, Change]
    refusals: tuple[Refusal, ...] = ()

    def after(self, scene: Scene, key: Key) -> Value | None:
        """What the limit is going to be; ``None``: the target does not offer it."""
        change = self.changes.get(key)
        return change.to if change else scene.before(key)


def goal_of(scene: Scene) -> Goal:
    """Bring every wanted value into the kernel's terms, then make those fit that belong together."""
    changes: dict[Key, Change] = {}
    refusals = []
    for key, value in scene.request.wanted.items():
        try:
            changes[key] = _change(scene, key, value)
        except UnknownLimitError as error:
            refusals.append(Refusal(key, str(error)))
        except LimitValueError as error:
            refusals.append(Refusal(key, error.problem))
    goal = Goal(changes, tuple(refusals))
    if refusals:
        return goal
    for couple in (_swap_v1, _burst, _idle):
        goal = couple(scene, goal)
    return goal


def _change(scene: Scene, key: Key, asked: Value) -> Change:
    knob = knob_of(key)
    before = scene.before(key)
    if (
        before is None
        and knob.per is Per.DEVICE
        and any(other.startswith("io.max.") for other in scene.state.values)
    ):
        before = knob.default  # of a device that has no bound the kernel says nothing
    if before is None:
        raise LimitValueError(key, _why_absent(scene, key))
    to, note = normalised(knob, asked, scene.tree.node)
    return Change(key, before, asked, to, note)


def _why_absent(scene: Scene, key: Key) -> str:
    knob = knob_of(key)
    place = scene.place(knob)
    if scene.version(knob) is None:
        return f"this node has no {knob.controller} controller"
    if place is None:
        return knob.absent
    reasons = [place.needs, f"Linux {place.since[0]}.{place.since[1]}" if place.since > (0, 0) else ""]
    reasons.append(f"the {knob.controller} controller switched on above it" if place.controller else "")
    return f"{scene.state.path} has no {place.file}: it takes {', and '.join(filter(None, reasons))}"


def _with(goal: Goal, *changes: Change) -> Goal:
    return structs.replace(goal, changes={**goal.changes, **{change.key: change for change in changes}})


def _coupled(scene: Scene, key: Key, to: Value, note: str) -> Change:
    """A change that nobody asked for and that another brings with it."""
    return Change(key, scene.before(key), to, to, note)


def _swap_v1(scene: Scene, goal: Goal) -> Goal:
    """On v1 one file bounds memory and swap together, so without a limit of memory there is none of swap."""
    if not scene.is_v1("memory.max") or goal.after(scene, "memory.max") != math.inf:
        return goal
    swap = goal.after(scene, "memory.swap.max")
    if swap is None or swap == math.inf:
        return goal
    if "memory.swap.max" in goal.changes:
        message = (
            "cgroup v1 limits memory and swap together, so swap alone cannot be limited while memory.max is "
            "max; limit memory.max as well"
        )
        return structs.replace(goal, refusals=(*goal.refusals, Refusal("memory.swap.max", message)))
    note = "cgroup v1 limits memory and swap together: without a limit of memory there is none of swap"
    return _with(goal, _coupled(scene, "memory.swap.max", math.inf, note))


def _burst(scene: Scene, goal: Goal) -> Goal:
    """Keep the burst at most the quota; the kernel refuses anything else."""
    quota = number_of(goal.after(scene, "cpu.max"))
    burst = number_of(goal.after(scene, "cpu.max.burst"))
    if quota is None or burst is None or burst <= quota:
        return goal
    note = f"a burst is at most the quota, {format_value('cpu.max', quota)}"
    change = goal.changes.get("cpu.max.burst")
    return _with(
        goal,
        structs.replace(change, to=quota, note=note)
        if change
        else _coupled(scene, "cpu.max.burst", quota, note),
    )


def _idle(scene: Scene, goal: Goal) -> Goal:
    """An idle cgroup has no weight, and one that stops being idle has the kernel's default."""
    weight = "cpu.shares" if scene.is_v1("cpu.max") else "cpu.weight"
    was, is_idle = scene.before("cpu.idle"), goal.after(scene, "cpu.idle")
    if scene.before(weight) is None:
        return goal
    if weight in goal.changes and is_idle == 1:
        asked = goal.changes[weight].asked
        if asked == _IDLE_WEIGHTS[weight]:
            return _with(goal, structs.replace(goal.changes[weight], to=_IDLE_WEIGHTS[weight], note=""))
        message = "it has no weight while cpu.idle is 1; set cpu.idle=0 as well"
        return structs.replace(goal, refusals=(*goal.refusals, Refusal(weight, message)))
    if was == is_idle or weight in goal.changes:
        return goal
    to, note = (
        (_IDLE_WEIGHTS[weight], "an idle cgroup has no weight")
        if is_idle == 1
        else (_DEFAULT_WEIGHTS[weight], "the kernel's default, for a cgroup that was idle has no weight")
    )
    return _with(goal, _coupled(scene, weight, to, note))
