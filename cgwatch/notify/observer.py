"""Who learns how the notifications do."""

from __future__ import annotations

from typing import Literal, Protocol

Result = Literal["delivered", "retried", "dead_letter", "dropped", "held_back"]


class Observer(Protocol):
    """Counts. Every method may be called from any thread."""

    def notified(self, channel: str, result: Result, /) -> None:
        """Take note of what became of a message, or of one attempt."""

    def attempted(self, channel: str, seconds: float, /) -> None:
        """Take note of how long an attempt took."""

    def succeeded(self, channel: str, seconds: float, /) -> None:
        """Take note of when a receiver last had something, since the epoch."""

    def waiting(self, channel: str, messages: int, /) -> None:
        """Take note of how many messages are on their way."""
