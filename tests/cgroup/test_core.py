"""What is read of a cgroup's life, and how often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import core
from cgwatch.cgroup.core import CoreStats

COUNTS = st.integers(0, 1 << 40)


@given(COUNTS, COUNTS)
def test_descendants_are_told_from_dying_ones_among_newer_keys(alive: int, dying: int) -> None:
    # Linux 6.18 counts the states of each controller as well.
    raw = f"nr_descendants {alive}\nnr_subsys_memory 3\nnr_dying_descendants {dying}\nnr_dying_subsys_io 9\n"
    stat = core.STAT.parse(raw.encode())

    assert core.stats(None, None, stat) == CoreStats(descendants=alive, dying_descendants=dying)


@pytest.mark.parametrize(
    ("raw", "populated", "frozen"),
    [(b"populated 1\nfrozen 0\n", True, False), (b"populated 0\nfrozen 1\n", False, True)],
)
def test_a_flag_is_true_or_false(raw: bytes, *, populated: bool, frozen: bool) -> None:
    events = core.FILES_V2[1].parse(raw)
    found = core.stats(None, events, None)

    assert (found.populated, found.frozen) == (populated, frozen)


def test_before_5_2_nothing_is_said_of_freezing() -> None:
    events = core.FILES_V2[1].parse(b"populated 1\n")

    assert core.stats(None, events, None) == CoreStats(populated=True)


def test_a_leak_is_looked_for_as_seldom_as_a_limit_but_the_tree_is_counted_at_each_tick() -> None:
    for files in (core.FILES_V1, core.FILES_V2):
        assert [file.name for file in files if file.setting] == ["cgroup.stat"]
    assert not core.STAT.setting
