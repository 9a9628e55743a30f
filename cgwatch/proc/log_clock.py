"""How far the clock of the kernel's log is from CLOCK_MONOTONIC, which time servers correct.

Nothing tells, but a record that has just woken its reader was written just now. So it is at most so far off
as that record seems old; the rest is how long it took to wake up. Pure, but for the clocks that it is given.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

_FASTEST_DRIFT = 0.001
"""Seconds each second: time servers correct by 0.0005, and the CPU's own clock is not measured better."""
_MICROSECONDS = 1_000_000


class Drift(Struct, frozen=True):
    """How far the log's clock is behind, as it was known last; at boot both clocks were the same."""

    seconds: float = 0.0
    at_seconds: float = 0.0
    """When that was learned, by CLOCK_MONOTONIC."""


class LogClock:
    """``clock`` is the epoch's, ``monotonic`` counts from boot; both in seconds."""

    def __init__(
        self, clock: Callable[[], float], monotonic: Callable[[], float], drift: Drift | None = None
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self.drift = drift or Drift()

    def boot_time_seconds(self) -> float:
        """Return what to add to the time of a record, as ``kmsg.epoch_seconds`` wants it."""
        return self._clock() - self._monotonic() + self.drift.seconds

    def written_now(self, time_microseconds: int) -> None:
        """Learn from a record that was written a moment ago.

        If that moment was a long one (the reader was stopped, the machine short of memory), the drift is
        believed only as far as clocks can have come apart since the last such record.
        """
        now = self._monotonic()
        believable = self.drift.seconds + _FASTEST_DRIFT * (now - self.drift.at_seconds)
        self.drift = Drift(min(now - time_microseconds / _MICROSECONDS, believable), now)
