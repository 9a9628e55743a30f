"""Whose turn it is: dear work is spread over the ticks of its interval, and bounded in time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Rounds(Generic[Key]):
    """Gives each key its turn once in an interval: a share of them at each tick, and a new one at once.

    What there is no time for comes first at the next tick.
    """

    def __init__(self, *, ticks: int, budget_seconds: float, monotonic: Callable[[], float]) -> None:
        """``ticks``: of an interval. ``budget_seconds``: what the work of one tick may take."""
        self._ticks = ticks
        self._budget_seconds = budget_seconds
        self._monotonic = monotonic
        self._waiting: dict[Key, None] = {}  # the one whose last turn is longest ago comes first
        self._rest = 0

    def take(self, keys: Collection[Key]) -> Iterator[Key]:
        """Yield those of ``keys`` whose turn it is, until the time is used up, but one at least.

        To be called once a tick, and gone through to its end.
        """
        end_seconds = self._monotonic() + self._budget_seconds
        new = [key for key in keys if key not in self._waiting]
        self._waiting = {key: None for key in self._waiting if key in keys}
        share, self._rest = divmod(self._rest + len(self._waiting), self._ticks)
        for key in (*new, *itertools.islice(self._waiting, share)):
            yield key
            self._waiting.pop(key, None)
            self._waiting[key] = None
            if self._monotonic() >= end_seconds:
                return
