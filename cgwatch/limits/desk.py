"""The agent's worker for limits: a thread with an inbox, so that the core never waits for a write."""

from __future__ import annotations

from collections.abc import Iterable

from cgwatch.change import Actor, Key, Report, Request, Target
from cgwatch.limits.enforce import Held


class LimitsDesk:
    """``apply`` and ``reset`` may be called from any thread; they wait for the worker.

    They raise ``EnforcerBusyError`` where this agent does not enforce (another process holds the lock), and
    ``TimeoutError`` when the worker does not come to it in time: then it is done later, or not at all.
    """

    def apply(self, request: Request, *, timeout_seconds: float = 30.0) -> Report:
        """Have a request carried out."""
        raise NotImplementedError

    def reset(
        self, target: Target, keys: Iterable[Key] | None, actor: Actor, *, timeout_seconds: float = 30.0
    ) -> Report:
        """Have limits brought back to what they were."""
        raise NotImplementedError

    def held(self) -> tuple[Held, ...]:
        """Return the overrides in force; never waits."""
        raise NotImplementedError
