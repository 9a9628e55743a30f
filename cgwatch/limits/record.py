"""The record of limits in the database: the audit log, overrides with their time, baselines, intents."""

from __future__ import annotations

from msgspec import Struct

from cgwatch.change import Actor, Outcome, Target
from cgwatch.storage import Storage


class Entry(Struct, frozen=True):
    """A row of the audit log: one change of one request."""

    number: int
    """Of the row."""
    report: int
    """Of the request; all of its rows have it."""
    seconds: float
    """When it was begun, since the epoch."""
    target: Target
    actor: Actor
    reason: str
    for_seconds: float | None
    outcome: Outcome | None
    """``None``: it is being made right now, or a crash came between and no agent has started since."""
    note: str = ""


class Records:
    """Safe for any thread and for several processes, as ``Storage`` is."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def changes(
        self, *, since_seconds: float = 0, container: str | None = None, limit: int = -1
    ) -> list[Entry]:
        """Return rows of the audit log, the newest first, at most ``limit`` if it is not negative.

        ``container``: a name, a path, or the beginning of a container's id. Raises ``StorageError``.
        """
        raise NotImplementedError
