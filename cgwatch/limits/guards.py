"""What a plan does not do, or not without force: bounds that protect the processes and the node. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct, structs

from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import Change, Refusal
from cgwatch.limits.effective import period_of
from cgwatch.limits.goal import Goal
from cgwatch.limits.scene import Scene, is_lower, number_of, whole
from cgwatch.units import format_size


class Guards(Struct, frozen=True):
    """Bounds of every plan."""

    memory_floor_bytes: int = 6 << 20
    """Less starts no process; it is what Docker takes at least."""
    margin_ratio: float = 0.1
    """Of what cannot be reclaimed, so much is kept free below a lowered ``memory.max``; or else"""
    margin_bytes: int = 1 << 20
    """at least that."""
    tasks_floor: int = 1
    memory_reserve_bytes: int = 0
    """What no ``memory.max`` takes away from the rest of the node."""
    cpu_reserve: float = 0.0
    """CPUs that no ``cpu.max`` takes away from the rest of the node."""


class MemoryUse(Struct, frozen=True):
    """What lowering memory comes down to."""

    usage_bytes: int
    reclaimable_bytes: int
    swappable_bytes: int
    """As far as there is room for it."""

    @property
    def least_bytes(self) -> int:
        """What remains when all is reclaimed that can be."""
        return max(self.usage_bytes - self.reclaimable_bytes - self.swappable_bytes, 0)


def memory_use(scene: Scene, goal: Goal) -> MemoryUse | None:
    """Return what is used, and what of it can go; ``None`` where the kernel does not say."""
    state = scene.state
    if state.memory_usage_bytes is None:
        return None
    room = float(scene.tree.node.swap_free_bytes or 0)
    if scene.is_v2_memory:
        limits = [(goal.after(scene, "memory.swap.max"), state.swap_usage_bytes)]
        limits += [(above.values.get("memory.swap.max"), above.swap_usage_bytes) for above in scene.above]
        for value, used in limits:
            bound = number_of(value)
            if bound is not None:
                room = min(room, max(bound - (used or 0), 0))
    return MemoryUse(
        state.memory_usage_bytes,
        state.reclaimable_bytes or 0,
        int(min(state.anon_bytes or 0, room)),
    )


def with_margin(least_bytes: int, guards: Guards) -> int:
    """Return what a limit has to be for so much to stay below it."""
    return least_bytes + max(int(least_bytes * guards.margin_ratio), guards.margin_bytes)


def reserved(scene: Scene, goal: Goal, guards: Guards) -> Goal:
    """Bring limits down to what the node can give without its reserve."""
    if scene.restores or scene.request.force:
        return goal
    changes = {key: _within_reserve(scene, goal, change, guards) for key, change in goal.changes.items()}
    return structs.replace(goal, changes=changes)


def _within_reserve(scene: Scene, goal: Goal, change: Change, guards: Guards) -> Change:
    node = scene.tree.node
    most: float = math.inf
    if change.key in {"memory.max", "memory.min"} and guards.memory_reserve_bytes and node.memory_total_bytes:
        pages = (node.memory_total_bytes - guards.memory_reserve_bytes) // node.page_bytes
        most, kept = max(pages, 0) * node.page_bytes, format_size(guards.memory_reserve_bytes)
    elif change.key == "cpu.max" and guards.cpu_reserve and node.cpus:
        period = whole(goal.after(scene, "cpu.max.period"), period_of(scene.state))
        most, kept = int((len(node.cpus) - guards.cpu_reserve) * period), f"{guards.cpu_reserve:g} CPUs"
    value = number_of(change.to)
    if value is None or value <= most or value == math.inf:
        return change
    return structs.replace(change, to=most, note=f"the node keeps {kept} for itself")


def refusals(scene: Scene, goal: Goal, guards: Guards) -> Iterator[Refusal]:
    """Yield what is not done, with the numbers and with what to do."""
    yield from _memory(scene, goal, guards)
    yield from _tasks(scene, goal, guards)
    for key, change in goal.changes.items():
        used = scene.state.used.get(key, 0)
        value = number_of(change.to)
        if key.startswith("hugetlb.") and value is not None and value < used:
            yield Refusal(
                key,
                f"{format_size(used)} of these pages are in use, and the kernel takes none away; "
                "end the processes that have them, or allow more",
            )


def _memory(scene: Scene, goal: Goal, guards: Guards) -> Iterator[Refusal]:
    change = goal.changes.get("memory.max")
    to = number_of(change.to) if change else None
    use = memory_use(scene, goal)
    if change is not None and to is not None and is_lower(to, change.before) and not scene.request.force:
        if to < guards.memory_floor_bytes and not scene.restores:
            yield Refusal(
                "memory.max",
                f"{format_size(to)} is less than {format_size(guards.memory_floor_bytes)}; nothing can start",
            )
        elif use and to < with_margin(use.least_bytes, guards):
            yield Refusal("memory.max", _too_little(scene, to, use, guards))
    if use and not scene.is_v2_memory and not scene.request.force:
        yield from _memory_and_swap(scene, goal, use)


def _too_little(scene: Scene, to: float, use: MemoryUse, guards: Guards) -> str:
    then = (
        "allow more, or use --force, and the kernel kills"
        if scene.is_v2_memory
        else "or allow more: the kernel is going to refuse it, cgroup v1 kills nobody for a new limit"
    )
    return (
        f"{format_size(use.usage_bytes)} are in use; {format_size(use.reclaimable_bytes)} of it can be "
        f"reclaimed and {format_size(use.swappable_bytes)} can go to swap, so with some to spare "
        f"{format_size(with_margin(use.least_bytes, guards))} is the least, not {format_size(to)}. "
        f"End processes, {then}"
    )


def _memory_and_swap(scene: Scene, goal: Goal, use: MemoryUse) -> Iterator[Refusal]:
    """v1: what is in memory and swap together can only shrink by what is page cache."""
    before = both(scene.before("memory.max"), scene.before("memory.swap.max"))
    after = both(goal.after(scene, "memory.max"), goal.after(scene, "memory.swap.max"))
    least = use.usage_bytes + (scene.state.swap_usage_bytes or 0) - use.reclaimable_bytes
    if before is not None and after is not None and after < before and after < least:
        yield Refusal(
            "memory.swap.max" if "memory.swap.max" in goal.changes else "memory.max",
            f"memory and swap together have {format_size(least)} that cannot be reclaimed, and "
            f"{format_size(after)} would be left for both; end processes, or allow more",
        )


def both(memory: object, swap: object) -> int | float | None:
    """Return v1's limit of memory and swap together; ``None`` where there is none of swap."""
    if not isinstance(memory, (int, float)) or not isinstance(swap, (int, float)):
        return None
    return memory + swap


def _tasks(scene: Scene, goal: Goal, guards: Guards) -> Iterator[Refusal]:
    change = goal.changes.get("pids.max")
    to = number_of(change.to) if change else None
    if change is None or to is None or not is_lower(to, change.before) or scene.request.force:
        return
    used = scene.state.used.get("pids.max", 0)
    if to < guards.tasks_floor and not scene.restores:
        yield Refusal(
            "pids.max", f"with less than {guards.tasks_floor} nothing can start; write that at least"
        )
    elif to < used:
        yield Refusal(
            "pids.max",
            f"{used} processes and threads are there; nobody would be killed, but none could start until "
            f"there are less than {format_value('pids.max', to)}; allow more, or use --force",
        )


def warnings(scene: Scene, goal: Goal, guards: Guards) -> Iterator[str]:
    """Yield what is done and may not be what is meant."""
    use = memory_use(scene, goal)
    high = goal.changes.get("memory.high")
    if high and use and is_lower(high.to, high.before):
        bound = number_of(high.to)
        if bound is not None and bound < use.least_bytes:
            yield (
                f"memory.high: {format_size(use.least_bytes)} cannot be reclaimed, so above "
                f"{format_size(bound)} the processes are slowed down until they stand still"
            )
    swap = goal.changes.get("memory.swap.max")
    used = scene.state.swap_usage_bytes or 0
    if swap and scene.is_v2_memory and (bound := number_of(swap.to)) is not None and bound < used:
        yield f"memory.swap.max: {format_size(used)} are swapped out already, and stay there"
    yield from _chain(scene, goal)
    period, quota = goal.changes.get("cpu.max.period"), goal.changes.get("cpu.max")
    kept = number_of(scene.before("cpu.max"))
    if period and quota is None and kept is not None and kept < math.inf and period.to != period.before:
        cpus = kept / whole(period.to, 1)
        yield f"cpu.max stays {format_value('cpu.max', kept)}, which is {cpus:.3g} CPUs for the new period"
    maximum = goal.changes.get("memory.max")
    if maximum and maximum.to == math.inf and guards.memory_reserve_bytes:
        yield f"memory.max: without a limit the node does not keep {format_size(guards.memory_reserve_bytes)}"


def _chain(scene: Scene, goal: Goal) -> Iterator[str]:
    """Yield what stands above what bounds it.

    The kernel takes it, so it is what was asked for, and a baseline that is so can be brought back. Of
    ``memory.min`` and ``memory.low`` the one may be larger: 0 is what low is where nobody wants it.
    """
    for key in ("memory.high", "memory.low", "memory.min"):
        value = number_of(goal.after(scene, key))
        bounds = ("memory.max",) if key == "memory.high" else ("memory.high", "memory.max")
        for bound in bounds if value is not None and value < math.inf else ():
            most = number_of(goal.after(scene, bound))
            if goal.changes.keys() & {key, bound} and most is not None and value is not None and value > most:
                yield f"{key} is {format_size(value)}, above {bound} of {format_size(most)}: more has no use"
                break
