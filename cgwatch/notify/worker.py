"""Sends what waits for one receiver, on a thread of its own: one that hangs holds up nobody else."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from cgwatch.notify.channel import Channel
from cgwatch.notify.journal import Entry, Journal
from cgwatch.notify.message import Message
from cgwatch.notify.observer import Observer
from cgwatch.notify.outcome import Delivered, Outcome, Refused, Retry, pause_seconds
from cgwatch.notify_settings import Queue as Bounds
from cgwatch.notify_settings import Retry as Pauses

LOG = logging.getLogger(__name__)

Clock = Callable[[], float]


class Means(Struct, frozen=True):
    """What every worker is given."""

    journal: Journal
    observer: Observer
    bounds: Bounds
    pauses: Pauses
    clock: Clock
    """Seconds since the epoch."""
    monotonic: Clock
    chance: Clock
    """0..1, another one each time."""


class Worker:
    """What is in the journal goes on when it is made; ``put`` and ``stop`` are for other threads."""

    def __init__(self, channel: Channel, means: Means) -> None:
        self.channel = channel
        self._means = means
        self._entries: deque[Entry] = deque(means.journal.entries(channel.identity))
        self._sending = 0
        self._failures = 0
        self._not_before_seconds = means.monotonic()
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"notify-{channel.name}", daemon=True)
        self._bound()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take a message, which is in the journal."""
        with self._changed:
            self._entries.append(entry)
            self._bound()
            self._changed.notify()

    def stop(self) -> None:
        """End soon: what is not delivered stays in the journal."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self.channel.stop()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the end; a name that is being looked up cannot be interrupted, and is left to itself."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while self._wait():
            self.step()

    def _wait(self) -> bool:
        """Wait until there is something to do; tell whether there is, or else it is the end."""
        with self._changed:
            while not self._stopped and ((wait := self._wait_seconds()) is None or wait > 0):
                self._changed.wait(wait)
            return not self._stopped

    def step(self) -> None:
        """Make one attempt, of the first message that waits, or else of the upkeep."""
        with self._changed:
            entry = self._entries.popleft() if self._entries else None
            self._sending = 1 if entry else 0
        outcome = self._attempt(entry)
        with self._changed:
            if self._stopped and isinstance(outcome, Retry):
                return  # it was interrupted, and is in the journal
            self._sending = 0
            self._settle(entry, outcome)
            self._bound()

    def _wait_seconds(self) -> float | None:
        """Return how long there is nothing to do; ``None``: until something changes."""
        self._bound()
        pause = self._not_before_seconds - self._means.monotonic()
        if self._entries:
            return pause
        due = self.channel.upkeep_due_seconds()
        return None if due is None else max(pause, due - self._means.clock())

    def _attempt(self, entry: Entry | None) -> Outcome:
        began_seconds = self._means.monotonic()
        try:
            outcome = self.channel.deliver(entry.message) if entry else self.channel.keep_up()
        except Exception as error:
            # One message that cannot be sent must not end the thread, and all others with it.
            LOG.exception("a notification failed", extra={"channel": self.channel.name})
            outcome = Refused(f"cgwatch could not send it: {error}")
        self._means.observer.attempted(self.channel.name, self._means.monotonic() - began_seconds)
        return outcome

    def _settle(self, entry: Entry | None, outcome: Outcome) -> None:
        name, observer = self.channel.name, self._means.observer
        who = {"channel": name, "receiver": self.channel.receiver}
        if isinstance(outcome, Retry):
            self._failures += 1
            pauses = self._means.pauses
            pause = pause_seconds(
                self._failures,
                outcome.after_seconds,
                self._means.chance(),
                first_seconds=pauses.first_seconds,
                longest_seconds=pauses.longest_seconds,
            )
            self._not_before_seconds = self._means.monotonic() + pause
            if self._failures == 1:
                LOG.warning(
                    "a receiver of notifications fails; it is tried again",
                    extra={**who, "problem": outcome.problem},
                )
            if entry is not None:
                observer.notified(name, "retried")
                # Behind the others: it may be this one that the receiver dislikes.
                self._entries.append(entry)
            return
        if self._failures and isinstance(outcome, Delivered):
            LOG.info("a receiver of notifications answers again", extra=who)
        self._failures = 0
        if isinstance(outcome, Refused):
            LOG.error(
                "a notification was refused, and is given up",
                extra={**who, "problem": outcome.problem, "title": entry.message.title if entry else ""},
            )
        else:
            observer.succeeded(name, self._means.clock())
        if entry is not None:
            self._means.journal.remove(self.channel.identity, entry.message.key)
            observer.notified(name, "delivered" if isinstance(outcome, Delivered) else "dead_letter")

    def _bound(self) -> None:
        """Let go of what is too old or too much."""
        bounds = self._means.bounds
        oldest_seconds = self._means.clock() - bounds.keep_seconds
        over = len(self._entries) - bounds.messages
        kept = deque(
            entry
            for index, entry in enumerate(self._entries)
            if index >= over and entry.made_seconds >= oldest_seconds
        )
        if len(kept) < len(self._entries):
            left = {id(entry) for entry in kept}
            dropped = [entry.message for entry in self._entries if id(entry) not in left]
            self._entries = kept
            self._drop(dropped)
        self._means.observer.waiting(self.channel.name, len(self._entries) + self._sending)

    def _drop(self, messages: list[Message]) -> None:
        for message in messages:
            self._means.journal.remove(self.channel.identity, message.key)
            self._means.observer.notified(self.channel.name, "dropped")
        LOG.warning(
            "notifications were dropped: too old or too many",
            extra={"channel": self.channel.name, "messages": len(messages), "see": "notify.queue"},
        )
