"""A clock that is fine enough for one tick of the sampler.

In User Mode Linux the CPU time of a process is counted in whole jiffies of 10 ms (its scheduler's clock has
no finer step), so there one thread that nobody interrupts is measured by the time that goes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

_COARSE_NANOSECONDS = 1_000_000
_TRIAL_NANOSECONDS = 50_000_000


class Clock(Struct, frozen=True):
    """Nanoseconds of work of this process."""

    name: str
    """What the C programs call it: ``cpu`` or ``wall``."""
    step_nanoseconds: int
    """The least step of the CPU clock that was seen."""
    now: Callable[[], int]


def finest() -> Clock:
    """Return the clock of CPU time, or of real time where that one is too coarse."""
    step = least_step(time.process_time_ns)
    if step < _COARSE_NANOSECONDS:
        return Clock("cpu", step, time.process_time_ns)
    return Clock("wall", step, time.perf_counter_ns)


def least_step(clock: Callable[[], int]) -> int:
    """Return the least difference between two readings of a clock that runs while it is read."""
    end = time.perf_counter_ns() + _TRIAL_NANOSECONDS
    steps = []
    before = clock()
    while time.perf_counter_ns() < end:
        if (now := clock()) != before:
            steps.append(now - before)
            before = now
    return min(steps, default=_TRIAL_NANOSECONDS)
