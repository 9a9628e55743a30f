"""Messages into cgwatch's own log."""

from __future__ import annotations

import logging

from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Delivered, Outcome

LOG = logging.getLogger(__name__)


class LogChannel:
    """See ``Channel``."""

    name = identity = "log"
    receiver = "the log"

    def deliver(self, message: Message) -> Outcome:
        """Write one line."""
        LOG.warning(
            message.title,
            extra={
                "kind": message.kind,
                "number": message.number,
                "container": message.container,
                "text": message.text,
            },
        )
        return Delivered()

    def upkeep_due_seconds(self) -> float | None:
        """Never."""
        return None

    def keep_up(self) -> Outcome:
        """Nothing to do."""
        return Delivered()

    def stop(self) -> None:
        """Nothing is under way for long."""
