"""The agent's worker for limits: a thread with an inbox, so that the core never waits for a write."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeAlias

from cgwatch.change import Actor, Key, Report, Request, Target
from cgwatch.errors import CgwatchError, EnforcerBusyError
from cgwatch.limits.parts import Held, Observer
from cgwatch.limits.record import Records
from cgwatch.limits.wiring import Office, open_office
from cgwatch.oom.observation import LimitWrite
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage

LOG = logging.getLogger(__name__)

_WATCH_SECONDS = 5.0
"""How soon it is seen that a container was started again, or that somebody else wrote a limit of ours."""
_LOCK_SECONDS = 15.0
"""How often an agent that is not the one that writes asks whether it can be."""
_PAUSE_SECONDS = 30.0
"""After what should never happen."""
_STOP_SECONDS = 20.0


_Work: TypeAlias = tuple[Callable[[], Report], Future[Report]]


class DeskObserver(Observer, Protocol):
    """Learns what is done, and whether this agent is the one that does it."""

    def enforcing(self, is_ours: bool, /) -> None:  # noqa: FBT001 - a callback
        """This agent began or ceased to be the one that writes limits on this host."""


class LimitsDesk:
    """``apply`` and ``reset`` may be called from any thread; they wait for the worker.

    They raise ``EnforcerBusyError`` where this agent does not enforce (another process holds the lock),
    ``TimeoutError`` when the worker does not come to it in time: then it is done later, or not at all; and
    ``StorageError``.
    """

    def __init__(
        self, office: Office, storage: Storage, observer: DeskObserver, *, lock_seconds: float = _LOCK_SECONDS
    ) -> None:
        """Take over ``office``, which the worker alone uses from now on, and ``storage``.

        ``lock_seconds``: how often to ask for the lock while somebody else has it.
        """
        self._lock_seconds = lock_seconds
        self._office = office
        self._storage = storage
        self._observer = observer
        self._inbox: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="limits", daemon=True)
        self._held: tuple[Held, ...] = ()
        self._is_ours: bool | None = None
        self._not_before = 0.0

    @property
    def records(self) -> Records:
        """The record of what was changed; for any thread."""
        return self._office.records

    def start(self) -> None:
        """Start the worker; what an earlier agent left is settled first."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float = _STOP_SECONDS) -> None:
        """Finish what is being done, then do as ``limits.on_exit`` says; at most so long.

        A worker that is not done by then is left behind: what it leaves half done is settled at the next
        start.
        """
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            LOG.warning("limits are still being written; the next start settles what is left")
            return
        self._storage.close()

    def apply(self, request: Request, *, timeout_seconds: float = 30.0) -> Report:
        """Have a request carried out."""
        return self._ask(partial(self._office.enforcer.apply, request), timeout_seconds)

    def reset(
        self, target: Target, keys: Iterable[Key] | None, actor: Actor, *, timeout_seconds: float = 30.0
    ) -> Report:
        """Have limits brought back to what they were."""
        return self._ask(partial(self._office.enforcer.reset, target, keys, actor), timeout_seconds)

    def held(self) -> tuple[Held, ...]:
        """Return the overrides in force, a few seconds old; never waits."""
        return self._held

    def _ask(self, work: Callable[[], Report], timeout_seconds: float) -> Report:
        if self._is_ours is False:
            raise EnforcerBusyError(
                f"process {self._office.lock.holder() or 'unknown'} writes the limits of this host, and this"
                f" agent only observes ({self._office.lock.path} is locked): ask that one, or end it"
            )
        future: Future[Report] = Future()
        self._inbox.put((work, future))
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            future.cancel()
            raise

    # The worker.

    def _work(self) -> None:
        while True:
            if time.monotonic() >= self._not_before and not self._survive(self._look_after):
                self._not_before = time.monotonic() + _PAUSE_SECONDS
            try:
                message = self._inbox.get(timeout=self._wait_seconds())
            except queue.Empty:
                continue
            if message is None:
                break
            work, future = message
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                    future.set_exception(error)
        if self._is_ours:
            self._survive(self._office.terms.leave)
        self._office.lock.release()

    def _look_after(self) -> None:
        """Undo what is over, and see how the others do."""
        if not self._take_lock():
            return
        now, terms = time.time(), self._office.terms
        self._held = terms.watch(now)  # first: an override may have to follow its container before it ends
        if terms.expire(now):
            self._held = terms.watch(now)

    def _take_lock(self) -> bool:
        """Be the one that writes limits on this host, if nobody else is; tell when that changes."""
        lock = self._office.lock
        try:
            is_ours = lock.acquire()
        except OSError as error:
            is_ours = False
            problem = f"it cannot be locked: {error.strerror}"
        else:
            problem = f"process {lock.holder() or 'unknown'} has locked it"
        if is_ours is not self._is_ours:
            self._is_ours = is_ours
            self._observer.enforcing(is_ours)
            if is_ours:
                LOG.info("this agent writes the limits of this host", extra={"lock": lock.path})
            else:
                LOG.warning("this agent only observes", extra={"lock": lock.path, "problem": problem})
        return is_ours

    def _wait_seconds(self) -> float:
        if not self._is_ours:
            return self._lock_seconds
        if (pause := self._not_before - time.monotonic()) > 0:
            return pause
        try:
            due = self._office.terms.next_seconds()
        except CgwatchError:
            due = None
        return _WATCH_SECONDS if due is None else min(max(due - time.time(), 0.0), _WATCH_SECONDS)

    def _survive(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except Exception as error:  # the thread's top: it is tried again later
            LOG.exception("limits could not be looked after", extra={"problem": str(error)})
            return False
        return True


def open_desk(
    settings: Settings, observer: DeskObserver, told: Callable[[LimitWrite], None]
) -> LimitsDesk | None:
    """Make the desk; ``None`` where no limit may be written, or none can be recorded, and the log says so.

    It has a connection of its own to the database, so that neither the worker nor the core waits for the
    other's. Raises ``NoCgroupsError`` or a ``KernelFileError``.
    """
    if settings.read_only:
        observer.enforcing(False)
        return None
    try:
        storage = Storage.open(os.path.join(settings.state_dir, DATABASE))
        office = open_office(settings, storage, observer=observer, told=told)
        now = time.time()
        office.records.prune(boot_id=office.boot_id, before_seconds=now - settings.limits.keep_seconds)
    except CgwatchError as error:
        LOG.warning(
            "limits cannot be changed, as nothing of it can be recorded",
            extra={"problem": str(error), "see": "state_dir"},
        )
        observer.enforcing(False)
        return None
    return LimitsDesk(office, storage, observer)
