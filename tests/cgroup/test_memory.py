"""Memory numbers that follow from others, and which files move enough to be read at each tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import memory
from cgwatch.cgroup.files import Fault, File
from cgwatch.cgroup.formats import integer
from cgwatch.cgroup.memory import MemoryStat, MemoryStats, keeps_no_peak
from cgwatch.errors import FileMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZES = st.none() | st.integers(0, 1 << 50)


@given(SIZES, SIZES)
def test_docker_shows_no_more_than_the_usage_and_no_less_than_the_working_set(
    usage: int | None, inactive: int | None
) -> None:
    stats = MemoryStats(usage_bytes=usage, stat=MemoryStat(inactive_file_bytes=inactive))
    shown, working_set = stats.docker_usage_bytes, stats.working_set_bytes

    assert (shown is None) == (working_set is None) == (usage is None)
    if usage is not None and shown is not None and working_set is not None:
        assert working_set <= shown <= usage


@pytest.mark.parametrize(("inactive", "shown"), [(30, 70), (0, 100), (None, 100), (100, 100), (130, 100)])
def test_docker_shows_the_usage_without_inactive_page_cache_unless_that_is_no_less(
    inactive: int | None, shown: int
) -> None:
    stats = MemoryStats(usage_bytes=100, stat=MemoryStat(inactive_file_bytes=inactive))

    assert stats.docker_usage_bytes == shown


def missing(names: Iterable[str]) -> list[Fault]:
    return [
        Fault(File(name, integer), FileMissingError(f"/sys/fs/cgroup/a/{name}", "no such file"))
        for name in names
    ]


def test_a_kernel_without_peaks_is_told_from_a_cgroup_without_any_number() -> None:
    assert keeps_no_peak(missing(["memory.peak", "memory.swap.peak"]))
    assert not keeps_no_peak(missing(["memory.swap.peak"]))
    assert not keeps_no_peak(missing(["memory.current", "memory.peak"]))  # the root, or not enabled
    assert not keeps_no_peak([])


def test_what_hardly_ever_moves_is_read_as_seldom_as_a_limit() -> None:
    at_each_tick = {file.name for file in memory.FILES_V2 if not file.setting}

    assert at_each_tick == {
        "memory.current",
        "memory.peak",
        "memory.swap.current",
        "memory.events",
        "memory.events.local",
        "memory.stat",
    }
