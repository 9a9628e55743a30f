"""What is going to be done for a request: checked, ordered, each step with what undoes it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import ActorKind, Plan, Request, Step, Tree
from cgwatch.limits import guards as bounds
from cgwatch.limits import levels, order
from cgwatch.limits.effective import effective
from cgwatch.limits.goal import Goal, goal_of
from cgwatch.limits.guards import Guards
from cgwatch.limits.scene import Scene

_USUAL = Guards()
_RESTORING = frozenset({ActorKind.EXPIRY, ActorKind.AGENT})


def plan(request: Request, tree: Tree, *, guards: Guards = _USUAL, restores: bool = False) -> Plan:
    """Plan a request on what the kernel says now; ``tree`` has its target.

    With any refusal there are no steps. Steps of other cgroups are of those below the target, and a warning
    names them. ``restores``: the values are what was there before, so floors and the node's reserve do not
    bind them (the end of an override always does so); what processes use still does.
    """
    scene = Scene(request, tree, restores or request.actor.kind in _RESTORING)
    goal = goal_of(scene)
    if not goal.refusals:
        goal = bounds.reserved(scene, goal, guards)
    changes = [change for change in goal.changes.values() if change.to != change.before]
    unchanged = tuple(change for change in goal.changes.values() if change.to == change.before)
    refusals = goal.refusals
    if not refusals:
        refusals = (*bounds.refusals(scene, goal, guards), *levels.refusals(scene, goal))
    if refusals:
        return Plan(request, tuple(changes), unchanged, refusals=refusals)
    steps = order.steps_of(scene, goal, guards)
    warnings = (
        *bounds.warnings(scene, goal, guards),
        *_not_effective(scene, goal),
        *_others(scene, steps),
    )
    return Plan(request, tuple(changes), unchanged, steps, warnings=warnings)


def _not_effective(scene: Scene, goal: Goal) -> Iterator[str]:
    """Yield what a cgroup above does not let take effect."""
    state = scene.state
    after = structs.replace(
        state, values={**state.values, **{key: change.to for key, change in goal.changes.items()}}
    )
    tree = structs.replace(scene.tree, cgroups={**scene.tree.cgroups, state.path: after})
    for key, change in goal.changes.items():
        if change.to == change.before:
            continue
        value, path = effective(tree, state.path, key)
        if path is not None and path != state.path and value is not None and value != change.to:
            yield f"{key}: {path} above it allows {format_value(key, value)} only"


def _others(scene: Scene, steps: tuple[Step, ...]) -> Iterator[str]:
    """Yield which other cgroups are changed along."""
    paths = dict.fromkeys(step.path for step in steps if step.path != scene.state.path)
    if paths:
        yield f"cgroup v1 lets nobody below have more, so these change as well: {', '.join(paths)}"
