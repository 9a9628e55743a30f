"""Limits on real kernels: each written, read back and undone; refusals with their words; memory lowered.

v1 natively, v2 in QEMU.
"""

from __future__ import annotations

import math
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cgwatch.cgroup.knob import Unit, Value
from cgwatch.cgroup.knobs import KNOBS, knob_of
from cgwatch.cgroup.limit_files import read_limit, write_step
from cgwatch.change import Plan, Step
from cgwatch.errors import (
    AccessDeniedError,
    CgroupGoneError,
    FileMissingError,
    KernelFileError,
    LimitBusyError,
    ReclaimedLessError,
    ValueRefusedError,
)
from cgwatch.limits.plan import plan
from tests.limits.real_cgroups import MACHINE, MEGABYTE, RealCgroups, run_in_qemu_machine
from tests.limits.wishes import DEVICE, request_of, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_NOT_HERE = {
    1: {"hugetlb.SIZE.max", "hugetlb.SIZE.rsvd.max", "blkio.weight", "blkio.bfq.weight"},
    2: {"io.weight", "io.bfq.weight", "memory.swap.max", "memory.swap.high"},
}
"""What this machine's v1, or Debian's kernel in QEMU, may not have: options, schedulers, swap accounting."""


@pytest.fixture
def real() -> Iterator[RealCgroups]:
    cgroups = RealCgroups()
    try:
        yield cgroups
    finally:
        cgroups.close()


@pytest.fixture
def is_v2(real: RealCgroups) -> bool:
    return real.version > 1


def _planned(real: RealCgroups, path: str, wishes: Mapping[str, Value], *, force: bool = False) -> Plan:
    tree = real.tree(path)
    return plan(request_of(path, wishes, inode=tree.cgroups[path].inode, force=force), tree)


def _carry_out(real: RealCgroups, made: Plan) -> None:
    assert not made.refusals
    for number, step in enumerate(made.steps):
        write_step(real.hierarchies, step)
        if step.waits_for == "usage":
            following = next(each for each in made.steps[number + 1 :] if "memory.max" in each.keys)
            deadline_seconds = time.monotonic() + 10
            while (real.tree(step.path).cgroups[step.path].memory_usage_bytes or 0) > int(following.text):
                assert time.monotonic() < deadline_seconds, "usage does not come down"
                time.sleep(0.01)


def _undo(real: RealCgroups, made: Plan) -> None:
    for step in reversed(made.steps):
        if step.undo is not None:
            write_step(
                real.hierarchies, Step(step.path, step.controller, step.file, step.undo, None, step.keys)
            )


def _other(real: RealCgroups, key: str) -> Value:
    """Return a value that a limit has not got at first."""
    sizes = {"memory.max": 64, "memory.high": 48, "memory.low": 16, "memory.min": 8}
    others: dict[str, Value] = {
        **{name: size * MEGABYTE for name, size in sizes.items()},
        "memory.soft_limit_in_bytes": 32 * MEGABYTE,
        "memory.swap.high": 16 * MEGABYTE,
        "cpu.max": 50_000,
        "cpu.max.period": 50_000,
        "cpu.max.burst": 10_000,
        "cpuset.cpus": "0" if real.version == 1 else "1",
        "cpuset.mems": "0",
        "pids.max": 42,
    }
    knob = knob_of(key)
    if key in others:
        return others[key]
    if knob.per.value == "size":
        return 4 << 30
    return 1 if knob.unit is Unit.SWITCH else 300


def test_every_limit_is_written_read_back_and_restored(real: RealCgroups) -> None:
    path = real.make("/one")
    before = real.values(path)
    tried = set()
    for key in before:
        wishes: dict[str, Value] = {key: _other(real, key)}
        if key == "memory.swap.max" and real.version == 1:
            wishes = {"memory.max": 64 * MEGABYTE, key: 8 * MEGABYTE}
        if key == "cpuset.mems" and real.version == 1:
            wishes = {key: ""}
        made = _planned(real, path, wishes)
        _carry_out(real, made)
        for change in made.changes:
            assert read_limit(real.hierarchies, path, change.key) == change.to
        after = real.values(path)
        assert after == {**before, **{change.key: change.to for change in made.changes}}
        assert after != before, key
        _undo(real, made)
        assert real.values(path) == before, key
        tried.add(knob_of(key).family)
    expected = {knob.key for knob in KNOBS if knob.place(real.version) and real.has(knob.controller)}
    assert tried >= expected - _NOT_HERE[real.version]


def test_several_limits_are_set_together_in_whatever_state(real: RealCgroups, is_v2: bool) -> None:  # noqa: FBT001 - a fixture
    path = real.make("/one")
    before = real.values(path)
    first: dict[str, Value] = {
        "memory.max": 300 * MEGABYTE,
        "cpu.max": 20_000,
        "cpu.max.period": 20_000,
        "cpu.max.burst": 5_000,
        "pids.max": 100,
    }
    second: dict[str, Value] = {
        "memory.max": 50 * MEGABYTE,
        "cpu.max": 4_000,
        "cpu.max.period": 100_000,
        "cpu.max.burst": 4_000,
        "pids.max": math.inf,
    }
    if is_v2:
        first["memory.high"], second["memory.high"] = 200 * MEGABYTE, 40 * MEGABYTE
    elif "memory.swap.max" in before:
        first["memory.swap.max"], second["memory.swap.max"] = 100 * MEGABYTE, 0
    plans = []
    for wishes in (first, second, first):
        made = _planned(real, path, wishes)
        _carry_out(real, made)
        assert {key: real.values(path)[key] for key in wishes} == wishes
        plans.append(made)
    for made in reversed(plans):
        _undo(real, made)
    assert real.values(path) == before


def test_cgroups_below_follow_on_v1(real: RealCgroups, is_v2: bool) -> None:  # noqa: FBT001 - a fixture
    if is_v2:
        pytest.skip("v2 lets a cgroup below ask for more than it gets")
    path = real.make("/one")
    below = [real.make("/one/a"), real.make("/one/a/deep"), real.make("/one/b")]
    for each in below:
        _carry_out(real, _planned(real, each, {"cpu.max": 90_000, "cpu.max.burst": 90_000}))
    before = [real.values(each) for each in (path, *below)]
    made = _planned(real, path, {"cpu.max": 10_000, "cpu.max.period": 20_000, "cpuset.cpus": "1"})
    _carry_out(real, made)
    assert [read_limit(real.hierarchies, each, "cpu.max") for each in below] == [50_000] * 3
    assert [read_limit(real.hierarchies, each, "cpuset.cpus") for each in (path, *below)] == ["1"] * 4
    moved = _planned(real, path, {"cpuset.cpus": "0"})
    _carry_out(real, moved)
    assert [read_limit(real.hierarchies, each, "cpuset.cpus") for each in (path, *below)] == ["0"] * 4
    _undo(real, moved)
    _undo(real, made)
    assert [real.values(each) for each in (path, *below)] == before


def test_a_cgroup_above_that_would_refuse_is_named_with_what_it_has(real: RealCgroups, is_v2: bool) -> None:  # noqa: FBT001 - a fixture
    above, path = real.make("/one"), real.make("/one/a")
    _carry_out(real, _planned(real, path, {"cpu.max": 10_000}))
    _carry_out(real, _planned(real, above, {"cpu.max": 50_000, "cpuset.cpus": "0"}))
    bandwidth, cpus = _planned(real, path, {"cpu.max": 60_000}), _planned(real, path, {"cpuset.cpus": "1"})
    if is_v2:
        assert not bandwidth.refusals
        assert f"cpu.max: {above} above it allows 50ms only" in bandwidth.warnings
        return
    for made, has in ((bandwidth, "50ms for each 100ms"), (cpus, "has 0,")):
        (refusal,) = made.refusals
        assert above in refusal.message
        assert has in refusal.message
        assert not made.steps
    # It is the kernel's word, not only ours.
    with pytest.raises(ValueRefusedError, match="a cgroup above allows less"):
        write_step(real.hierarchies, Step(path, "cpu", "cpu.cfs_quota_us", "60000", None, ()))
    with pytest.raises(ValueRefusedError, match=r"the cgroup above has not got all of them.*EACCES"):
        write_step(real.hierarchies, Step(path, "cpuset", "cpuset.cpus", "1", None, ()))
    with pytest.raises(LimitBusyError, match="a cgroup below has more"):
        write_step(real.hierarchies, Step(above, "cpuset", "cpuset.cpus", "\n", None, ()))


_WRITES = {
    1: [
        ("memory", "memory.memsw.limit_in_bytes", "1048576", "would be below memory.limit_in_bytes"),
        ("cpu", "cpu.cfs_quota_us", "999", "a quota is from 1000|A quota is from 1000"),
        ("cpu", "cpu.cfs_burst_us", "60000", "a burst is at most the quota"),
        ("cpuset", "cpuset.cpus", "5000", "this machine has no such number"),
        ("pids", "pids.max", "4194305", "a number from 0 to 4194304"),
        ("io", "blkio.throttle.read_bps_device", "251:77 1", "no such block device"),
        ("freezer", "freezer.state", "COLD", "FROZEN or THAWED"),
    ],
    2: [
        ("memory", "memory.max", "-1", "a number of bytes, or max"),
        ("memory", "memory.oom.group", "2", "0 or 1"),
        ("cpu", "cpu.max", "999", "a quota is from 1000"),
        ("cpu", "cpu.max.burst", "60000", "a burst is at most the quota"),
        ("cpu", "cpu.weight", "10001", "from 1 to 10000"),
        ("cpuset", "cpuset.cpus", "5000", "this machine has no such number"),
        ("pids", "pids.max", "4194305", "a number from 0 to 4194304"),
        ("io", "io.max", "251:77 rbps=1", "no such block device"),
        ("io", "io.max", "DEVICE rbps=0", "a number from 2, or max"),
        ("", "cgroup.freeze", "2", "0 or 1"),
    ],
}


def test_what_the_kernel_refuses_is_said_in_words_with_the_file_and_the_text(real: RealCgroups) -> None:
    path = real.make("/one")
    _carry_out(real, _planned(real, path, {"memory.max": 64 * MEGABYTE, "cpu.max": 50_000}))
    before = real.values(path)
    for controller, file, text, words in _WRITES[real.version]:
        text = text.replace("DEVICE", real.device)  # noqa: PLW2901 - the same text
        with pytest.raises(ValueRefusedError, match=words) as caught:
            write_step(real.hierarchies, Step(path, controller, file, text, None, ()))
        assert file in str(caught.value)
        assert repr(text) in str(caught.value)
        assert caught.value.text == text
    assert real.values(path) == before


def test_who_may_not_write_is_told_what_it_takes(real: RealCgroups) -> None:
    path = real.make("/one")
    step = Step(path, "pids", "pids.max", "5", None, ())
    os.seteuid(65534)
    try:
        with pytest.raises(AccessDeniedError, match="it takes root"):
            write_step(real.hierarchies, step)
    finally:
        os.seteuid(0)
    assert read_limit(real.hierarchies, path, "pids.max") == math.inf


def test_a_cgroup_that_is_gone_is_said_to_be(real: RealCgroups) -> None:
    path = real.top + "/nowhere"
    with pytest.raises(FileMissingError, match="the cgroup is gone"):
        write_step(real.hierarchies, Step(path, "pids", "pids.max", "5", None, ()))
    with pytest.raises(FileMissingError):
        real.tree(path)


def test_a_cgroup_removed_under_an_open_file_is_gone(
    real: RealCgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real.make("/one")
    opened = os.open

    def open_and_remove(name: str, *arguments: int) -> int:
        descriptor = opened(name, *arguments)
        real.directory("/one", "pids").rmdir()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_remove)
    with pytest.raises(CgroupGoneError, match="ENODEV"):
        write_step(real.hierarchies, Step(path, "pids", "pids.max", "5", None, ()))


def test_memory_in_use_is_not_cut_and_the_numbers_are_told(real: RealCgroups, is_v2: bool) -> None:  # noqa: FBT001 - a fixture
    path = real.make("/one")
    process = real.start("/one", anonymous=100 * MEGABYTE)
    before = real.values(path)
    made = _planned(real, path, {"memory.max": 20 * MEGABYTE})
    (refusal,) = made.refusals
    assert not made.steps
    assert "can go to swap" in refusal.message
    assert "not 20MiB" in refusal.message
    assert int(refusal.message.split(".")[0].split("MiB")[0]) in range(100, 130), refusal.message
    assert process.poll() is None
    forced = _planned(real, path, {"memory.max": 20 * MEGABYTE}, force=True)
    assert not forced.refusals
    if is_v2:
        _carry_out(real, forced)
        assert process.wait(30) == -signal.SIGKILL
        return
    with pytest.raises(LimitBusyError, match="more is in use and the kernel could not reclaim it"):
        _carry_out(real, forced)
    _undo(real, forced)
    assert real.values(path) == before
    assert process.poll() is None


def test_memory_is_lowered_as_far_as_page_cache_gives(real: RealCgroups, is_v2: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a fixture
    path = real.make("/one")
    process = real.start(
        "/one", anonymous=20 * MEGABYTE, cached=120 * MEGABYTE, file=str(tmp_path / "cached")
    )
    usage = real.tree(path).cgroups[path].memory_usage_bytes
    assert usage is not None
    assert usage > 120 * MEGABYTE
    made = _planned(real, path, {"memory.max": 64 * MEGABYTE})
    assert [step.waits_for for step in made.steps].count("usage") == (1 if is_v2 else 0)
    _carry_out(real, made)
    state = real.tree(path).cgroups[path]
    assert state.values["memory.max"] == 64 * MEGABYTE
    assert (state.memory_usage_bytes or 0) <= 64 * MEGABYTE
    assert state.values.get("memory.high", math.inf) == math.inf
    assert process.poll() is None


def test_more_than_there_is_cannot_be_reclaimed(real: RealCgroups, is_v2: bool) -> None:  # noqa: FBT001 - a fixture
    path = real.make("/one")
    if not is_v2:
        with pytest.raises(FileMissingError):
            write_step(real.hierarchies, Step(path, "memory", "memory.reclaim", "1048576", None, ()))
        return
    real.start("/one", anonymous=10 * MEGABYTE)
    with pytest.raises(ReclaimedLessError, match="less could be reclaimed"):
        write_step(real.hierarchies, Step(path, "memory", "memory.reclaim", str(1 << 30), None, ()))


def test_fewer_tasks_than_there_are_takes_force(real: RealCgroups) -> None:
    path = real.make("/one")
    process = real.start("/one", controllers=("pids",))
    real.start("/one", controllers=("pids",))
    made = _planned(real, path, {"pids.max": 1})
    assert "2 processes and threads are there" in made.refusals[0].message
    _carry_out(real, _planned(real, path, {"pids.max": 1}, force=True))
    assert read_limit(real.hierarchies, path, "pids.max") == 1
    assert process.poll() is None


def test_a_frozen_cgroup_thaws_again(real: RealCgroups) -> None:
    path = real.make("/one")
    real.start("/one", controllers=("freezer",) if real.version == 1 else ("memory",))
    made = _planned(real, path, {"cgroup.freeze": 1})
    assert made.steps[-1].waits_for == "frozen"
    _carry_out(real, made)
    assert read_limit(real.hierarchies, path, "cgroup.freeze") == 1
    _undo(real, made)
    assert read_limit(real.hierarchies, path, "cgroup.freeze") == 0


def test_a_limit_that_is_not_offered_says_why(real: RealCgroups) -> None:
    absent = "memory.high" if real.version == 1 else "cpu.shares"
    with pytest.raises(KernelFileError, match="cgroup v"):
        read_limit(real.hierarchies, real.make("/one"), absent)


PATHS = ("/above", "/above/target", "/above/target/one", "/above/target/two")


@settings(
    max_examples=15 if MACHINE in os.environ else 40,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_plan_stumbles_on_a_real_kernel_and_each_is_undone_without_a_trace(data: st.DataObject) -> None:
    real = RealCgroups()
    try:
        places = {below: real.make(below) for below in PATHS}
        for below in data.draw(st.lists(st.sampled_from(PATHS), max_size=4)):
            _carry_out_if_allowed(real, places[below], data.draw(wanted(real.version)))
        before = {path: real.values(path) for path in places.values()}
        path = places["/above/target"]
        made = _carry_out_if_allowed(real, path, data.draw(wanted(real.version)))
        after = real.values(path)
        assert after == {**before[path], **{change.key: change.to for change in made.changes}}
        _undo(real, made)
        assert {path: real.values(path) for path in places.values()} == before
    finally:
        real.close()


def _carry_out_if_allowed(real: RealCgroups, path: str, wishes: Mapping[str, Value]) -> Plan:
    """Do what of some wishes is allowed: random lists of CPUs are of more of them than a machine has."""
    left = {key.replace(DEVICE, real.device): value for key, value in wishes.items()}
    while (made := _planned(real, path, left)).refusals:
        refused = {refusal.key for refusal in made.refusals}
        assert refused & left.keys()
        left = {key: value for key, value in left.items() if key not in refused}
    _carry_out(real, made)
    return made


@pytest.mark.skipif(MACHINE in os.environ, reason="inside the machine already")
@pytest.mark.timeout(600)
def test_cgroup_v2_and_the_model_of_it() -> None:
    run_in_qemu_machine("tests/limits/test_real_limits.py", "tests/limits/test_errno_model.py")
