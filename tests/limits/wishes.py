"""What somebody may want of a cgroup, at random."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import Actor, ActorKind, Request, Target
from cgwatch.discovery.recognise import recognise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cgwatch.cgroup.knob import Value

MEGABYTE = 1 << 20
DEVICE = "254:0"
_numbers = st.sampled_from((1, 2, 8, 50, 100, 500))
_bytes = st.one_of(
    _numbers.map(lambda number: number * MEGABYTE), st.integers(0, 600 * MEGABYTE), st.just(math.inf)
)
_quota = st.one_of(st.sampled_from((1000, 5000, 20_000, 50_000, 100_000, 300_000)), st.integers(0, 10**6))
_period = st.one_of(st.sampled_from((1000, 10_000, 50_000, 100_000, 1_000_000)), st.integers(1, 2 * 10**6))
_cpus = st.sets(st.integers(0, 3)).map(lambda cpus: ",".join(str(cpu) for cpu in sorted(cpus)))
_switch = st.sampled_from((0, 1))
_VALUES: dict[str, st.SearchStrategy[Value]] = {
    **{f"memory.{name}": _bytes for name in ("max", "high", "low", "min", "swap.max", "soft_limit_in_bytes")},
    "memory.oom.group": _switch,
    "cpu.max": st.one_of(_quota, st.just(math.inf)),
    "cpu.max.period": _period,
    "cpu.max.burst": _quota,
    "cpu.weight": st.integers(0, 20_000),
    "cpu.shares": st.integers(0, 300_000),
    "cpu.idle": _switch,
    "cpuset.cpus": _cpus,
    "cpuset.mems": st.sampled_from(("", "0")),
    f"io.max.rbps[{DEVICE}]": st.one_of(st.integers(0, 2**40), st.just(math.inf)),
    f"io.max.wiops[{DEVICE}]": st.one_of(st.integers(0, 2**33), st.just(math.inf)),
    "pids.max": st.one_of(st.integers(0, 300), st.just(10**7), st.just(math.inf)),
    "cgroup.freeze": _switch,
}


@st.composite
def wanted(draw: st.DrawFn, version: int) -> dict[str, Value]:
    """Draw values of a few limits that the version has."""
    keys = [key for key in _VALUES if knob_of(key).place(version)]
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=6, unique=True))
    return {key: draw(_VALUES[key]) for key in chosen}


def request_of(path: str, wishes: Mapping[str, Value], *, inode: int = 1, force: bool = False) -> Request:
    target = Target(path, inode, recognise(path))
    return Request(target, wishes, Actor(ActorKind.COMMAND, "test"), force=force)
