"""Values of the families that cAdvisor lacks: events, breakdowns, bounds, tasks, cgroups, averages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from cgwatch.cgroup.core import CoreStats
from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.memory import MemoryEvents, MemoryStat, MemoryStats, SwapEvents
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.families.memory_detail import FAMILIES as MEMORY_DETAIL
from cgwatch.metrics.families.pressure_average import FAMILIES as AVERAGES

if TYPE_CHECKING:
    from cgwatch.metrics.families.base import Family


def value(name: str, part: Any) -> float | None:
    """Give the value of one family for a part of a sample; ``None``: no series."""
    (family,) = (family for family in FAMILIES if family.name == name)
    assert family.value is not None
    return family.value(part)


# Memory.


def test_charged_memory_the_working_set_and_what_docker_shows_stand_side_by_side() -> None:
    memory = MemoryStats(usage_bytes=100, stat=MemoryStat(inactive_file_bytes=130))

    assert value("container_memory_usage_bytes", memory) == 100
    assert value("container_memory_working_set_bytes", memory) == 0
    assert value("container_memory_docker_usage_bytes", memory) == 100


@pytest.mark.parametrize("family", [each for each in MEMORY_DETAIL if "memory.stat" in each.source])
def test_a_size_that_the_kernel_does_not_print_is_absent_and_0_is_0(family: Family) -> None:
    assert family.value is not None
    zeros = MemoryStat(**dict.fromkeys(MemoryStat.__struct_fields__, 0))

    assert family.value(MemoryStats()) is None
    assert family.value(MemoryStats(usage_bytes=0, stat=zeros)) == 0


def test_events_are_those_of_the_container_with_all_that_is_nested_in_it() -> None:
    memory = MemoryStats(
        low_bytes=1, events=MemoryEvents(1, 2, 3, 4, 5, 6), events_local=MemoryEvents(0, 0, 0, 0, 0, 0)
    )

    assert value("container_memory_events_low_total", memory) == 1
    assert value("container_memory_events_oom_total", memory) == 4
    assert value("container_memory_events_oom_kill_total", memory) == 5
    assert value("container_memory_events_oom_group_kill_total", memory) == 6


def test_oom_kills_of_v1_are_those_of_the_cgroup_alone() -> None:
    assert (
        value("container_memory_events_oom_kill_total", MemoryStats(events_local=MemoryEvents(oom_kill=0)))
        == 0
    )
    assert value("container_memory_events_oom_kill_total", MemoryStats()) is None


@pytest.mark.parametrize(
    ("name", "count", "bound", "none"),
    [
        ("events_low", "events.low", "low_bytes", 0),
        ("swap_events_high", "swap_events.high", "swap_high_bytes", math.inf),
        ("swap_events_max", "swap_events.max", "swap_limit_bytes", math.inf),
    ],
)
def test_events_of_a_bound_are_there_with_the_bound_and_whenever_they_are_not_0(
    name: str, count: str, bound: str, none: float
) -> None:
    field, key = count.split(".")

    def shown(counted: int | None, bounded: float | None) -> float | None:
        events = structs.replace(getattr(MemoryStats(), field), **{key: counted})
        memory = structs.replace(MemoryStats(), **{field: events, bound: bounded})
        return value(f"container_memory_{name}_total", memory)

    assert shown(0, 4096) == 0
    assert shown(2, 4096) == 2
    assert shown(2, none) == 2  # of a nested cgroup, or before the bound was lifted
    assert shown(0, none) is None
    assert shown(0, None) is None
    assert shown(None, 4096) is None


def test_a_page_that_could_not_be_swapped_out_is_counted_whatever_the_limit() -> None:
    memory = MemoryStats(swap_limit_bytes=math.inf, swap_events=SwapEvents(fail=0))

    assert value("container_memory_swap_events_fail_total", memory) == 0


# Bounds.


@pytest.mark.parametrize(
    ("name", "field", "none"),
    [
        ("memory_high_bytes", "high_bytes", math.inf),
        ("memory_swap_high_bytes", "swap_high_bytes", math.inf),
        ("memory_low_bytes", "low_bytes", 0),
        ("memory_min_bytes", "min_bytes", 0),
    ],
)
def test_a_bound_of_memory_that_is_not_set_is_absent(name: str, field: str, none: float) -> None:
    for said, shown in ((4096, 4096), (none, None), (None, None)):
        memory = structs.replace(MemoryStats(), **{field: said})
        assert value(f"container_spec_{name}", memory) == shown


def test_a_protection_of_all_memory_is_infinite() -> None:
    assert value("container_spec_memory_low_bytes", MemoryStats(low_bytes=math.inf)) == math.inf


def test_flags_are_1_or_0_and_absent_where_the_kernel_does_not_say() -> None:
    for said, shown in ((True, "1"), (False, "0"), (None, "None")):
        assert str(value("container_spec_memory_oom_group", MemoryStats(oom_group=said))) == shown
        assert str(value("container_spec_cpu_idle", CpuStats(idle=said))) == shown
        assert str(value("container_cgroup_populated", CoreStats(populated=said))) == shown
        assert str(value("container_cgroup_frozen", CoreStats(frozen=said))) == shown


def test_the_weight_is_shown_as_it_is_and_a_burst_in_seconds() -> None:
    assert value("container_spec_cpu_weight", CpuStats(weight=79)) == 79
    assert value("container_spec_cpu_burst_seconds", CpuStats(burst_microseconds=20_000)) == 0.02
    assert value("container_spec_cpu_burst_seconds", CpuStats(burst_microseconds=0)) is None


def test_a_limit_on_tasks_is_absent_without_one() -> None:
    for said, shown in ((50, 50), (0, 0), (math.inf, None), (None, None)):
        assert value("container_spec_pids_limit", PidsStats(limit=said)) == shown


# Tasks and cgroups.


def test_tasks_are_shown_with_their_peak_and_the_refused_ones() -> None:
    pids = PidsStats(current=3, limit=4, peak=4, limit_hits_total=0)

    assert value("container_pids_current", pids) == 3
    assert value("container_pids_peak", pids) == 4
    assert value("container_pids_limit_hits_total", pids) == 0


def test_nested_cgroups_and_those_that_the_kernel_still_holds_are_counted() -> None:
    core = CoreStats(descendants=2, dying_descendants=7)

    assert value("container_cgroup_descendants", core) == 2
    assert value("container_cgroup_dying_descendants", core) == 7


# Pressure.

LINE = PressureLine(0.1, 0.2, 0.3, 4.5)


def test_time_stalled_by_interrupts_is_shown_where_the_kernel_says_it() -> None:
    name = "container_pressure_irq_stalled_seconds_total"

    assert value(name, PressureStats(irq=Pressure(full=LINE))) == 4.5
    assert value(name, PressureStats(cpu=Pressure(full=LINE))) is None


@pytest.mark.parametrize("resource", ["cpu", "memory", "io"])
def test_averages_are_ratios_by_window(resource: str) -> None:
    waiting, stalled = (each for each in AVERAGES if f"_{resource}_" in each.name)
    stats = PressureStats(**{resource: Pressure(some=LINE)})
    assert waiting.rows is not None
    assert stalled.rows is not None
    nothing: Any = None  # they need no snapshot

    assert list(waiting.rows(stats, nothing)) == [
        ('window="10s"', 0.1),
        ('window="60s"', 0.2),
        ('window="300s"', 0.3),
    ]
    assert list(stalled.rows(stats, nothing)) == []
    assert list(waiting.rows(PressureStats(), nothing)) == []
