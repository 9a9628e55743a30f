"""Whatever is asked for in whatever state: a plan never stumbles or kills, and is undone without a trace."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgwatch.cgroup.knob import Value
from cgwatch.change import Plan, Step
from cgwatch.limits.guards import Guards
from cgwatch.limits.plan import plan
from tests.limits.errno_model import PAGE, Kernel
from tests.limits.wishes import MEGABYTE, request_of, wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET = "/above/target"
PATHS = ("/above", TARGET, f"{TARGET}/one", f"{TARGET}/one/deep", f"{TARGET}/two")


@st.composite
def kernels(draw: st.DrawFn, version: int) -> Kernel:
    """Draw a kernel in a state that it can be in: one that writes have led to."""
    kernel = Kernel(version, swap_free=draw(st.sampled_from((0, 30 * MEGABYTE))))
    for path in PATHS:
        kernel.make(path)
    if draw(st.booleans()):
        for path in PATHS:
            kernel.write(path, "cpuset.cpus", "0-3")
    for path in draw(st.lists(st.sampled_from(PATHS), max_size=4)):
        for key, value in draw(wanted(version)).items():
            request = request_of(path, {key: value}, force=True)
            for step in plan(request, kernel.tree()).steps:
                with contextlib.suppress(OSError):
                    kernel.write(step.path, step.file, step.text)
    target = kernel.cgroups[TARGET]
    free = min(target.pages.get("max", math.inf), target.pages.get("both", math.inf), 200 * MEGABYTE // PAGE)
    most = int(free) * PAGE
    target.anon = draw(st.integers(0, most // PAGE)) * PAGE
    target.cache = draw(st.integers(0, (most - target.anon) // PAGE)) * PAGE
    target.tasks = draw(st.integers(0, 20)) if target.cpus and target.mems else 0
    return kernel


def _do(kernel: Kernel, step: Step) -> None:
    kernel.write(step.path, step.file, step.text)


def _undo(kernel: Kernel, steps: tuple[Step, ...]) -> None:
    for step in reversed(steps):
        if step.undo is not None:
            kernel.write(step.path, step.file, step.undo)


def _values(kernel: Kernel) -> dict[str, Value]:
    return dict(kernel.tree().cgroups[TARGET].values)


versions = pytest.mark.parametrize("version", [1, 2])


@versions
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_step_is_refused_and_all_that_was_promised_is_there(version: int, data: st.DataObject) -> None:
    kernel = data.draw(kernels(version))
    wishes = data.draw(wanted(version))
    before = _values(kernel)
    made = plan(request_of(TARGET, wishes), kernel.tree())
    if made.refusals:
        assert not made.steps
        return
    for step in made.steps:
        _do(kernel, step)
    after = _values(kernel)
    changed = {change.key: change.to for change in made.changes}
    assert after == {**before, **changed}
    assert set(changed) | {change.key for change in made.unchanged} >= set(wishes)


@versions
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_undoing_any_beginning_of_a_plan_restores_everything(version: int, data: st.DataObject) -> None:
    kernel = data.draw(kernels(version))
    made = plan(request_of(TARGET, data.draw(wanted(version))), kernel.tree())
    shown = kernel.shown()
    done = made.steps[: data.draw(st.integers(0, len(made.steps)))]
    for step in done:
        _do(kernel, step)
    _undo(kernel, done)
    assert kernel.shown() == shown


@versions
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_nothing_is_killed_and_no_limit_goes_below_what_is_used(version: int, data: st.DataObject) -> None:
    kernel = data.draw(kernels(version))
    guards = Guards()
    made = plan(request_of(TARGET, data.draw(wanted(version))), kernel.tree(), guards=guards)
    lowest = kernel.tree().cgroups[TARGET].values["memory.max"]
    for number, step in enumerate(made.steps):
        _do(kernel, step)
        target = kernel.cgroups[TARGET]
        assert not target.killed
        value = _values(kernel)["memory.max"]
        assert not isinstance(value, str)
        assert not isinstance(lowest, str)
        assert value >= min(guards.memory_floor_bytes, lowest)
        if step.waits_for == "usage":
            following = next(each for each in made.steps[number + 1 :] if each.file == "memory.max")
            assert target.usage <= int(following.text)


def _outside(before: Value, after: Value, value: Value) -> bool:
    """Tell whether a value is neither old nor new nor between them."""
    if isinstance(value, str) or isinstance(before, str) or isinstance(after, str):
        return set(str(value).split(",")) > set(str(before).split(",")) | set(str(after).split(","))
    return not min(before, after) <= value <= max(before, after)


_BANDWIDTH = {"cpu.max", "cpu.max.period"}
_LISTS = {"cpuset.cpus", "cpuset.mems"}


@versions
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_limit_passes_through_what_is_neither_old_nor_new(version: int, data: st.DataObject) -> None:
    kernel = data.draw(kernels(version))
    before = _values(kernel)
    made = plan(request_of(TARGET, data.draw(wanted(version))), kernel.tree())
    to = {change.key: change.to for change in made.changes}
    stages = {step.file for step in made.steps if step.waits_for == "usage" and not step.keys}
    for step in made.steps:
        _do(kernel, step)
        for key, value in _values(kernel).items():
            if key in stages or key in _LISTS or key in _BANDWIDTH:
                continue
            if version == 1 and key == "memory.swap.max":
                continue  # what the kernel has is the limit of both, below
            assert not _outside(before[key], to.get(key, before[key]), value), (key, step)
        if version == 1:
            both = [
                float(values["memory.max"]) + float(values["memory.swap.max"])
                for values in (before, _values(kernel), {**before, **to})
            ]
            assert min(both[0], both[2]) <= both[1] <= max(both[0], both[2])
        assert _ratio(_values(kernel)) >= min(_ratio(before), _ratio({**before, **to})) * (1 - 1e-5)


def _ratio(values: Mapping[str, Value]) -> float:
    return float(values["cpu.max"]) / float(values["cpu.max.period"])


@versions
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_plan_for_what_was_there_before_brings_it_back(version: int, data: st.DataObject) -> None:
    kernel = data.draw(kernels(version))
    kernel.cgroups[TARGET].anon = kernel.cgroups[TARGET].cache = 0
    below = {path: kernel.tree().cgroups[path].values for path in PATHS[2:]}
    before = _values(kernel)
    made: Plan = plan(request_of(TARGET, data.draw(wanted(version)), force=True), kernel.tree())
    for step in made.steps:
        _do(kernel, step)
    back = {change.key: change.before for change in made.changes if change.before is not None}
    again = plan(request_of(TARGET, back, force=True), kernel.tree())
    assert not again.refusals
    for step in again.steps:
        _do(kernel, step)
    assert _values(kernel) == before
    if all(step.path == TARGET for step in made.steps):
        assert {path: kernel.tree().cgroups[path].values for path in PATHS[2:]} == below
