"""How far the clock of the kernel's log is from CLOCK_MONOTONIC, which time servers correct.

Nothing tells, but a record that has just woken its reader was written just now. So it is at most so far off
as that record seems old; the rest is how long it took to wake up. Pure, but for the clocks that it is given.
"""

from __future__ import annotations

from collections.abc import Callable

_FASTEST_DRIFT = 0.001
"""Seconds each second: time servers correct by 0.0005, and the CPU's own clock is not measured better."""
_MICROSECONDS = 1_000_000


class LogClock:
    """``clock`` is the epoch's, ``monotonic`` counts from boot; both in seconds."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._drift_seconds = 0.0
        self._at_seconds = 0.0  # at boot both clocks were the same

    def boot_time_seconds(self) -> float:
        """Return what to add to the time of a record, as ``kmsg.epoch_seconds`` wants it."""
        return self._clock() - self._monotonic() + self._drift_seconds

    def written_now(self, time_microseconds: int) -> None:
        """Learn from a record that was written a moment ago.

        If that moment was a long one (the reader was stopped, the machine short of memory), the drift is
        believed only as far as clocks can have come apart since the last such record.
        """
        now = self._monotonic()
        believable = self._drift_seconds + _FASTEST_DRIFT * (now - self._at_seconds)
        self._drift_seconds = min(now - time_microseconds / _MICROSECONDS, believable)
        self._at_seconds = now
