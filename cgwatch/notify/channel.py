"""What a channel is to the worker that calls it."""

from __future__ import annotations

from typing import Protocol

from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Outcome


class Channel(Protocol):
    """One receiver. Not thread-safe but for ``stop``: its worker calls it."""

    @property
    def name(self) -> str:
        """What logs, metrics and the command line call it: ``webhook``, ``webhook-2``."""

    @property
    def identity(self) -> str:
        """What its queue is kept under: the same as long as the receiver is the same."""

    @property
    def receiver(self) -> str:
        """Who that is, without what is secret."""

    def deliver(self, message: Message) -> Outcome:
        """Make one attempt."""

    def upkeep_due_seconds(self) -> float | None:
        """Return when ``keep_up`` has something to do, since the epoch; ``None``: never."""

    def keep_up(self) -> Outcome:
        """Do what is due though there is no message."""

    def stop(self) -> None:
        """End an attempt that is under way; called from another thread."""
