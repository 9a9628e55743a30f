"""Tasks: what the kernel says at each tick, and what it says when something goes wrong."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import pids
from cgwatch.cgroup.pids import PidsStats


def stats_of(*texts: str | None) -> PidsStats:
    """Read the files of the table, in its order; ``None``: not there."""
    values = [
        None if text is None else file.parse(text.encode())
        for file, text in zip(pids.FILES_V2, texts, strict=True)
    ]
    return pids.stats(*values)


@given(*[st.integers(0, 1 << 22)] * 3, st.none() | st.integers(0, 1 << 22))
def test_each_file_is_one_number(current: int, peak: int, hits: int, limit: int | None) -> None:
    bound = "max" if limit is None else str(limit)

    assert stats_of(f"{current}\n", f"{bound}\n", f"{peak}\n", f"max {hits}\n") == PidsStats(
        current=current, limit=math.inf if limit is None else limit, peak=peak, limit_hits_total=hits
    )


def test_what_an_older_kernel_does_not_have_is_unsaid() -> None:
    assert stats_of("3\n", "max\n", None, None) == PidsStats(current=3, limit=math.inf)


def test_the_current_number_and_its_peak_are_read_at_each_tick_the_rest_as_seldom_as_a_limit() -> None:
    for files in (pids.FILES_V1, pids.FILES_V2):
        assert [file.name for file in files if not file.setting] == ["pids.current", "pids.peak"]
