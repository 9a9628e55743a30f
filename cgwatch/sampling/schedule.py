"""When to sample: at whole intervals after the start, whatever a tick costs."""

from __future__ import annotations

import math


class Schedule:
    """Deadlines on a monotonic clock. They never drift: the n-th is n intervals after the first.

    A tick that runs over its interval makes the ones in between missed; they are counted and skipped, not
    caught up with, since late samples are no better for coming in a burst.
    """

    def __init__(self, interval_seconds: float, start_seconds: float) -> None:
        self.interval_seconds = interval_seconds
        self._start_seconds = start_seconds
        self.sequence = 0
        """Number of the next tick; the first is 0 and due at once."""

    @property
    def deadline_seconds(self) -> float:
        """Monotonic time of the next tick."""
        return self._start_seconds + self.sequence * self.interval_seconds

    def advance(self, now_seconds: float) -> int:
        """Move on to the first deadline after ``now_seconds``; return how many were missed.

        Call it when a tick is done.
        """
        passed = math.floor((now_seconds - self._start_seconds) / self.interval_seconds)
        following = max(self.sequence, passed) + 1
        missed = following - self.sequence - 1
        self.sequence = following
        return missed
