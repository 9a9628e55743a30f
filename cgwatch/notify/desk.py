"""Decides what is told, and when: a thread between the agent's core, which never waits, and the workers."""

from __future__ import annotations

import logging
import queue
import random
import socket
import threading
from collections.abc import Callable, Sequence
from itertools import islice

from msgspec import Struct, structs

from cgwatch.notify.channel import Channel
from cgwatch.notify.channels import channels_of
from cgwatch.notify.journal import Entry, Journal
from cgwatch.notify.kills import container_of, message_of
from cgwatch.notify.message import Held, storable
from cgwatch.notify.observer import Observer
from cgwatch.notify.rate import RateLimit
from cgwatch.notify.worker import Means, Worker
from cgwatch.notify_settings import Notify
from cgwatch.oom.case import moment_of
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.kill import OomKill
from cgwatch.storage import Storage

LOG = logging.getLogger(__name__)

_STOP_SECONDS = 1.5
_REMEMBERED = 10_000


class Known(Struct, frozen=True):
    """A kill that is to be told."""

    kill: OomKill
    evidence: Evidence | None
    due_seconds: float
    """When it is told with what is known by then, by the monotonic clock."""


class Spoken(Struct, frozen=True):
    """What one message tells: a kill, and how many came before it that were held back."""

    last: Known
    before: tuple[int, ...] = ()
    """The numbers of those."""
    held: Held | None = None


def joined(before: Spoken, after: Spoken) -> Spoken:
    """Speak of the later one, and count the other; its evidence is let go."""
    kill = before.last.kill
    held = before.held or Held(0, moment_of(kill))
    return Spoken(
        after.last,
        (*before.before, kill.number),
        structs.replace(held, count=held.count + kill.count),
    )


class NotifyDesk:
    """``take`` is for the agent's core, and never waits. Without channels nothing runs."""

    def __init__(self, notify: Notify, channels: Sequence[Channel], means: Means) -> None:
        self._notify = notify
        self._node = node_of(notify)
        self._means = means
        self._journal = means.journal
        self._inbox: queue.SimpleQueue[tuple[OomKill, Evidence | None] | None] = queue.SimpleQueue()
        self._known: dict[int, Known] = {}  # in the order in which they are due
        self._ready: list[Known] = []
        self._told: dict[int, None] = {}
        self._limit: RateLimit[Spoken] = RateLimit(
            notify.rate_limit.messages, notify.rate_limit.interval_seconds, joined
        )
        if channels:
            self._journal.begin()
        else:
            self._journal.cease()
        gone = self._journal.forget_others([channel.identity for channel in channels])
        if gone:
            LOG.warning(
                "notifications for receivers that are not configured any more were deleted",
                extra={"messages": gone},
            )
        for untold in self._journal.untold(self._oldest_seconds()) if channels else ():
            self._inbox.put(untold)
        self._workers = [Worker(channel, means) for channel in channels]
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    @property
    def tells(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._workers)

    def start(self) -> None:
        """Begin to tell."""
        if not self.tells:
            return
        names = ",".join(worker.channel.name for worker in self._workers)
        LOG.info("telling of OOM kills", extra={"channels": names, "node": self._node})
        for worker in self._workers:
            worker.start()
        self._thread.start()

    def take(self, kill: OomKill, evidence: Evidence | None) -> None:
        """Take a kill, or a later version of it."""
        self._inbox.put((kill, evidence))

    def stop(self) -> None:
        """End within two seconds; what is not told yet is found in the database by the next agent."""
        if not self.tells:
            return
        end_seconds = self._means.monotonic() + _STOP_SECONDS
        self._inbox.put(None)
        for worker in self._workers:
            worker.stop()
        self._thread.join(_STOP_SECONDS)
        for worker in self._workers:
            worker.join(max(0.0, end_seconds - self._means.monotonic()))

    def _run(self) -> None:
        while True:
            try:
                taken = self._inbox.get(timeout=self._wait_seconds())
            except queue.Empty:
                pass
            else:
                if taken is None:
                    return
                self._note(*taken)
            try:
                self._tell_due()
            except Exception:
                # One kill that cannot be put into words must not keep the others from being told.
                LOG.exception("an OOM kill could not be told")

    def _wait_seconds(self) -> float | None:
        due = [known.due_seconds for known in islice(self._known.values(), 1)]
        limited = self._limit.due_seconds()
        if limited is not None:
            due.append(limited)
        return max(0.0, min(due) - self._means.monotonic()) if due else None

    def _oldest_seconds(self) -> float:
        return self._means.clock() - self._notify.queue.keep_seconds

    def _note(self, kill: OomKill, evidence: Evidence | None) -> None:
        if kill.number in self._told or kill.found_seconds < self._oldest_seconds():
            return
        before = self._known.get(kill.number)
        due = before.due_seconds if before else self._means.monotonic() + self._notify.oom.after_seconds
        if evidence is None and before is not None:
            evidence = before.evidence
        known = Known(kill, evidence, due)
        if kill.settled:
            self._known.pop(kill.number, None)
            self._make_ready(known)
        else:
            self._known[kill.number] = known

    def _make_ready(self, known: Known) -> None:
        self._told[known.kill.number] = None
        self._ready.append(known)

    def _tell_due(self) -> None:
        now = self._means.monotonic()
        while self._known and (first := next(iter(self._known.values()))).due_seconds <= now:
            del self._known[first.kill.number]
            self._make_ready(first)
        ready, self._ready = self._ready, []
        for known in ready:
            if self._journal.is_told(known.kill.number):
                continue
            if self._limit.take(container_of(known.kill), Spoken(known), now):
                for worker in self._workers:
                    self._means.observer.notified(worker.channel.name, "held_back")
        while len(self._told) > _REMEMBERED:  # the ledger gives no new version of one that is long settled
            del self._told[next(iter(self._told))]
        for spoken in self._limit.give(now):
            self._tell(spoken)
        self._limit.forget(now)

    def _tell(self, spoken: Spoken) -> None:
        kill = spoken.last.kill
        message = message_of(
            kill,
            spoken.last.evidence,
            self._journal.earlier(kill),
            node=self._node,
            wording=self._notify.templates,
            held=spoken.held,
        )
        entry = Entry(message, self._means.clock())
        self._journal.add(
            [worker.channel.identity for worker in self._workers],
            entry,
            (*spoken.before, kill.number),
        )
        for worker in self._workers:
            worker.put(entry)


def node_of(notify: Notify) -> str:
    """Return what this node is called."""
    return storable(notify.node or socket.gethostname())


def open_desk(
    notify: Notify,
    storage: Storage | None,
    observer: Observer,
    *,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
) -> NotifyDesk:
    """Make the desk, with what an earlier agent left undone. Raises ``ConfigError``."""
    journal = Journal(storage)
    channels = channels_of(notify, clock, journal)
    means = Means(
        journal=journal,
        observer=observer,
        bounds=notify.queue,
        pauses=notify.retry,
        clock=clock,
        monotonic=monotonic,
        chance=random.random,
    )
    return NotifyDesk(notify, channels, means)
