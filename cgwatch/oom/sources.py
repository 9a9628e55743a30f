"""The kernel as a producer: one thread that waits for its log and its events, and only puts messages.

Asleep until the kernel says something: an idle node costs nothing. Whatever cannot be had (the log in a
container without the device, inotify watches, descriptors) is said once with what it costs; the ticks find
every kill all the same.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, structs

from cgwatch.cgroup.arrivals import Arrivals
from cgwatch.cgroup.events import ModifiedEvents, OomNotices
from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import KernelFileError
from cgwatch.oom.dialect import Told
from cgwatch.oom.kernel_log import KillLog, Start, has_the_kernels_pids
from cgwatch.oom.observation import LogLost, LogPlace
from cgwatch.oom.watching import Watched, Watching
from cgwatch.oom.witness import Witness

LOG = logging.getLogger(__name__)

_LONGEST_STOP_SECONDS = 2.0
_PLACE_SECONDS = 10.0
"""How often the place in the log is told while it tells of no kill."""
_WITHOUT_LOG = "kills are counted without it, but not which process it was and by whose limit"
_WITHOUT_EVENTS = "their kills are found at the next tick"


class EventSource(StrEnum):
    """What the kernel tells by."""

    LOG = "kernel_log"
    """/dev/kmsg."""
    CGROUPS = "cgroup_events"
    """v2: inotify on memory.events; v1: an eventfd at memory.oom_control."""


class Look(Struct, frozen=True, gc=False):
    """Something happened to the memory of this cgroup, perhaps its end: read its counters now."""

    path: str


class SourceState(Struct, frozen=True):
    """A source began or ceased to tell all that it can; said once for each change."""

    source: EventSource
    available: bool
    """False: nothing, or not of all cgroups."""
    detail: str
    """Why not and what that costs, for a person; empty when it is available."""


Message: TypeAlias = Told | LogLost | LogPlace | Look | SourceState
Deliver: TypeAlias = Callable[[Message], None]
"""Takes one message into the core's inbox. It is called from the thread and must not block."""


class Sources:
    """The thread. ``start``, ``watch`` and ``stop`` never block on the kernel and never raise.

    ``memory`` is the hierarchy of the memory controller; ``None``: there is none, so no events either.
    ``log``: where to begin in the kernel's log; ``None``: do not read it. ``eventfds`` is how many
    descriptors v1 may take: one for each cgroup. ``failed`` is called, from the thread, for each record of
    the log that cannot be understood. ``clock`` is the epoch's, ``monotonic`` CLOCK_MONOTONIC, which the
    kernel's log goes by, too.
    """

    def __init__(
        self,
        deliver: Deliver,
        *,
        memory: Hierarchy | None,
        log: Start | None,
        eventfds: int,
        proc_root: str,
        failed: Callable[[KernelFileError], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._deliver = deliver
        self._memory = memory
        self._start = log
        self._eventfds = eventfds
        self._proc_root = proc_root
        self._failed = failed
        self._clock = clock
        self._monotonic = monotonic
        self._thread = threading.Thread(target=self._run, name="kernel-events", daemon=True)
        self._lock = threading.Lock()
        self._wake: int | None = None
        self._wanted: Mapping[str, Watched] = {}
        self._stopping = False
        # Written by the thread alone, once it runs.
        self._log: KillLog | None = None
        self._placed_seconds = 0.0
        self._watching: Watching | None = None
        self._witness: Witness | None = None
        self._states: dict[EventSource, bool] = {}

    @property
    def unwatched(self) -> int:
        """How many cgroups the kernel does not tell of, for want of watches, descriptors or rights."""
        return len(self._watching.refused) if self._watching else 0

    def catch_up(self, after: LogPlace | None) -> list[Message]:
        """Return what was logged since that place, and where the log is now; before ``start``.

        A log that cannot be read says so once it is listened to.
        """
        if self._start is None:
            return []
        self._start = structs.replace(self._start, after=after)
        try:
            self._log = self._kill_log(self._start)
            return [*self._log.catch_up(), *self._new_place(self._log)]
        except KernelFileError:
            return []

    def start(self) -> None:
        """Begin to listen; what can be had and what cannot is told by messages."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; no message comes after this, unless the kernel itself hangs."""
        with self._lock:
            self._stopping = True
            self._wake_up()
        if self._thread.ident is not None:
            self._thread.join(_LONGEST_STOP_SECONDS)
        elif self._log is not None:
            self._log.close()
            self._log = None

    def watch(self, cgroups: Mapping[str, Watched]) -> None:
        """Say which cgroups there are, by path: all that have the memory controller.

        Meant for every tick: when nothing has changed, that is one comparison. The mapping must not be
        changed any more.
        """
        with self._lock:
            if self._wanted != cgroups:
                self._wanted = cgroups
                self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            os.eventfd_write(self._wake, 1)

    # The thread.

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                self._listen(stack)
        except Exception as error:  # the thread's top: it is logged, told, and the ticks go on
            LOG.exception("the kernel's events are lost")
            for source in EventSource:
                self._tell(source, f"internal error: {error!r}")

    def _listen(self, stack: ExitStack) -> None:
        epoll = stack.enter_context(select.epoll())
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        stack.callback(self._close_wake, wake)
        epoll.register(wake, select.EPOLLIN)
        log = self._open_log(stack)
        watching = self._open_events(stack)
        self._open_witness(stack, epoll)
        if log is not None:
            epoll.register(log, select.EPOLLIN)
        if watching is not None:
            epoll.register(watching.notifier, select.EPOLLIN)
        with self._lock:
            self._wake = wake
            self._wake_up()  # what was wanted before, and what was logged
        first = True
        while not self._stopping:
            wait_seconds = watching.wait_seconds(self._monotonic()) if watching else None
            ready = {descriptor for descriptor, _ in epoll.poll(wait_seconds)}
            # Before the log, so that it is known where a victim was.
            told = self._told(watching)
            # The log before the cgroups: who is told to look at one then knows what was logged before.
            if log is not None and (first or log.fileno() in ready) and not self._read_log(log):
                epoll.unregister(log)
                log = None
            first = False
            if wake in ready:
                os.eventfd_read(wake)
                self._follow(watching)
            for path in told:
                self._deliver(Look(path))

    def _close_wake(self, wake: int) -> None:
        with self._lock:
            self._wake = None
            os.close(wake)

    def _open_log(self, stack: ExitStack) -> KillLog | None:
        if self._start is None:
            return None
        try:
            log = self._log or self._kill_log(self._start)
        except KernelFileError as error:
            self._tell(EventSource.LOG, f"{error}; {_WITHOUT_LOG}")
            return None
        stack.callback(log.close)
        self._tell(EventSource.LOG)
        return log

    def _kill_log(self, start: Start) -> KillLog:
        return KillLog(
            start,
            memory=self._memory,
            proc_root=self._proc_root,
            failed=self._failed,
            clock=self._clock,
            monotonic=self._monotonic,
            seen=self._seen,
        )

    def _new_place(self, log: KillLog, *, at_once: bool = True) -> Iterator[LogPlace]:
        """Give the place in the log if it is to be told."""
        now, place = self._monotonic(), log.place
        if place is not None and (at_once or now - self._placed_seconds >= _PLACE_SECONDS):
            self._placed_seconds = now
            yield place

    def _open_events(self, stack: ExitStack) -> Watching | None:
        memory = self._memory
        if memory is None:
            self._tell(EventSource.CGROUPS, "no cgroup hierarchy has the memory controller")
            return None
        is_v1 = memory.version == 1
        try:
            notifier = OomNotices() if is_v1 else ModifiedEvents()
        except KernelFileError as error:
            self._tell(EventSource.CGROUPS, f"{error}; for all cgroups, {_WITHOUT_EVENTS}")
            return None
        stack.callback(notifier.close)
        self._watching = Watching(notifier, memory, self._eventfds if is_v1 else sys.maxsize)
        self._tell(EventSource.CGROUPS)
        return self._watching

    def _open_witness(self, stack: ExitStack, epoll: select.epoll) -> None:
        """Have somebody see who joins which cgroup; the log alone has need of it."""
        if self._log is None or self._memory is None or not has_the_kernels_pids("/proc"):
            return  # cgroup.procs has the pids of our own namespace
        try:
            arrivals = Arrivals(self._memory)
        except KernelFileError as error:
            LOG.warning("of many OOM kills at once some will not be named", extra={"problem": str(error)})
            return
        stack.callback(arrivals.close)
        self._witness = Witness(arrivals, self._monotonic)
        epoll.register(self._witness, select.EPOLLIN)

    def _seen(self, pid: int) -> str | None:
        return self._witness.path_of(pid) if self._witness is not None else None

    def _read_log(self, log: KillLog) -> bool:
        try:
            told = log.read()
            for message in (*told, *self._new_place(log, at_once=bool(told))):
                self._deliver(message)
        except KernelFileError as error:
            self._tell(EventSource.LOG, f"{error}; {_WITHOUT_LOG}")
            return False
        return True

    def _follow(self, watching: Watching | None) -> None:
        with self._lock:
            wanted = self._wanted
        if self._witness is not None:
            self._witness.follow(("/", *wanted))
        if watching is None:
            return
        watching.follow(wanted)
        if watching.refused:
            path, why = next(iter(watching.refused.items()))
            others = len(watching.refused) - 1
            self._tell(EventSource.CGROUPS, f"{path} and {others} others: {why}; {_WITHOUT_EVENTS}")
        else:
            self._tell(EventSource.CGROUPS)

    def _told(self, watching: Watching | None) -> list[str]:
        """Return the cgroups to look at; take note of who has joined one, and who is in those."""
        told = watching.take(self._monotonic()) if watching is not None else []
        if self._witness is not None:
            self._witness.look(told)
        return told

    def _tell(self, source: EventSource, problem: str = "") -> None:
        available = not problem
        if self._states.get(source) is not available:
            self._states[source] = available
            self._deliver(SourceState(source, available, problem))
