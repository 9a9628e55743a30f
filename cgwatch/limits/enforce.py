"""The one writer of limits: checks, records, writes, reads back, and undoes in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from cgwatch.change import Actor, Key, Plan, Report, Request, Target, Tree
from cgwatch.cgroup.knobs import Value
from cgwatch.oom.observation import LimitWrite


class Held(Struct, frozen=True):
    """One override in force, as the agent's metrics and ``cgwatch limits`` show it."""

    target: Target
    key: Key
    desired: Value
    applied: Value | None
    """As last read; ``None``: not read since the start."""
    effective: Value | None
    baseline: Value | None
    """What it goes back to."""
    expires_seconds: float | None
    """Since the epoch; ``None``: it holds until it is reset."""
    actor: Actor
    reason: str


class Enforcer:
    """Not thread-safe: one thread calls it, and may be kept waiting by the kernel for ``limits.deadline``.

    Nothing here raises for what a kernel or an owner refuses: that is in the report. ``StorageError`` is
    raised where the record cannot be written, and then nothing else was.
    """

    def apply(self, request: Request) -> Report:
        """Carry out a request; a dry run plans it alone."""
        raise NotImplementedError

    def reset(self, target: Target, keys: Iterable[Key] | None, actor: Actor) -> Report:
        """Bring back what was there before the first override of each key; ``None``: of all keys."""
        raise NotImplementedError

    def expire(self, now_seconds: float) -> list[Report]:
        """Undo the overrides whose time is over, if the values are still ours."""
        raise NotImplementedError

    def resume(self) -> list[Report]:
        """At a start: undo what a crash left half done, and what expired while nobody ran."""
        raise NotImplementedError

    def leave(self) -> list[Report]:
        """At the end: undo every override (``limits.on_exit: restore``), or leave them (``keep``)."""
        raise NotImplementedError

    def next_expiry_seconds(self) -> float | None:
        """Return when ``expire`` has something to do next, since the epoch."""
        raise NotImplementedError

    def held(self) -> tuple[Held, ...]:
        """Return the overrides in force."""
        raise NotImplementedError
