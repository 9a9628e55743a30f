"""A page held against the kernel, series by series."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from tests.real.agent_process import AgentProcess, Page
from tests.real.kernel_says import Says

MEMORY_TOLERANCE_BYTES = 64 * os.sysconf("SC_PAGESIZE") * (os.cpu_count() or 1)
"""The kernel charges memory in batches of 64 pages for each CPU, and moves them when it likes."""
# What a runtime says, or the clock, and no file of the kernel: each has a test of its own.
NOT_OF_THE_KERNEL = {
    *("container_last_seen", "container_health_state"),
    *("container_creation_time_seconds", "container_start_time_seconds"),
    *("container_state", "container_restarts_total", "container_exit_code", "container_health_status"),
    *("container_finished_time_seconds", "container_oom_killed", "container_oom_events_total"),
}


def check(agent: AgentProcess, cgroup: str, say: Callable[[], Says]) -> Page:
    """Hold every series of a container against what ``say`` reads before and after the sample of the page."""
    before = say()
    page = agent.page_after(time.time())
    after = say()
    shown = {series: value for series, value in page.of(cgroup).items() if series[0] not in NOT_OF_THE_KERNEL}
    missing = (before.keys() & after.keys()) - shown.keys()
    assert not missing, f"not on the page: {missing}"
    made_up = shown.keys() - (before.keys() | after.keys())
    assert not made_up, f"not of the kernel: {made_up}"
    wrong = {}
    for series, value in shown.items():
        low = before.get(series, 0.0)
        high = after.get(series, math.inf)
        if page.types[series[0]] == "counter" or series[0] == "container_memory_failcnt":
            right = low <= value <= high
        else:
            moves = series[0].startswith("container_memory_")
            slack = MEMORY_TOLERANCE_BYTES if moves and low != high else 0
            right = min(low, high) - slack <= value <= max(low, high) + slack
        if not right:
            wrong[series] = (low, value, high)
    assert not wrong, f"low, shown, high: {wrong}"
    return page
