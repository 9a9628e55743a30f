"""The kernel's log as what the ledger wants to know: which process was killed, where, and what was lost."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct, structs

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError
from cgwatch.oom.dialect import OomLog, Told
from cgwatch.oom.observation import KernelKill, LogLost, LogPlace
from cgwatch.proc import kmsg
from cgwatch.proc.kmsg import KernelLog, Lost, Record
from cgwatch.proc.log_clock import Drift, LogClock
from cgwatch.proc.membership import UNIFIED, read_membership
from cgwatch.proc.namespaces import is_foreign, namespace

_AT_ONCE = 1000
_INIT_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO: the same on every kernel since 3.8."""


def _nobody(_pid: int) -> None:
    return None


class Start(Struct, frozen=True):
    """Which log, and where in it to begin."""

    path: str = kmsg.PATH
    after: LogPlace | None = None
    """What ``KillLog.place`` was in this very boot: what was logged since is told. ``None``: nothing."""


class KillLog:
    """The log, read without waiting. ``fileno`` is for a selector.

    ``memory`` is the hierarchy of the memory controller. Raises a ``KernelFileError`` with the path when the
    log cannot be opened; ``failed`` is called for each record that cannot be understood. ``seen`` says in
    which cgroup a process was seen lately.
    """

    def __init__(
        self,
        start: Start,
        *,
        memory: Hierarchy | None,
        proc_root: str,
        failed: Callable[[KernelFileError], None],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        seen: Callable[[int], str | None] = _nobody,
    ) -> None:
        self._controller = UNIFIED if memory and memory.version > 1 else "memory"
        self._proc_root = proc_root
        self._failed = failed
        self._seen = seen
        after = start.after
        self._clock = LogClock(clock, monotonic, after.drift if after else Drift())
        self._dialect = OomLog(self._clock.boot_time_seconds())
        self._is_live = after is None  # else there may be records of long ago
        self._can_locate = has_the_kernels_pids(proc_root)
        self._log = KernelLog(start.path, after_sequence=after.sequence if after else None, failed=failed)

    @property
    def place(self) -> LogPlace | None:
        """Where to go on at the next start in this boot; ``None``: nothing was logged yet."""
        sequence = self._log.sequence if self._dialect.place is None else self._dialect.place
        return None if sequence is None else LogPlace(sequence, self._clock.drift)

    def fileno(self) -> int:
        """Return the descriptor, which belongs to this object."""
        return self._log.fileno()

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def catch_up(self) -> list[Told | LogLost]:
        """Return all that was logged until now, of which nothing is of this moment.

        Raises what ``read`` raises.
        """
        told: list[Told | LogLost] = []
        self._is_live = False
        while not self._is_live:
            told += self.read()
        self._is_live = False  # some time passes until somebody waits for it
        return told

    def read(self) -> list[Told | LogLost]:
        """Return what the log tells, in order; call it again while the log is readable.

        Raises a ``KernelFileError`` with the path when the log cannot be read any more.
        """
        said = self._log.read(_AT_ONCE)
        if self._is_live and said and isinstance(said[0], Record):
            self._clock.written_now(said[0].time_microseconds)  # it has woken us
        self._dialect.boot_time_seconds = self._clock.boot_time_seconds()
        told: list[Told | LogLost] = []
        for record in said:
            if isinstance(record, Lost):
                self._dialect.forget()
                told.append(LogLost(record.count))
                continue
            if kill := self._dialect.take(record):
                told.append(self._located(kill))
        self._is_live = len(said) < _AT_ONCE
        return told

    def _located(self, told: Told) -> Told:
        """Complete a kill whose cgroup the kernel held back: /proc still has it for a moment."""
        if told.kill.path is None and self._is_live and self._can_locate:
            return structs.replace(told, kill=self._with_path(told.kill))
        return told

    def _with_path(self, kill: KernelKill) -> KernelKill:
        path = self._shown(kill.victim.pid) or self._seen(kill.victim.pid)
        return kill if path is None else structs.replace(kill, path=path)

    def _shown(self, pid: int) -> str | None:
        try:
            path = read_membership(self._proc_root, pid).get(self._controller, "/")
        except (FileMissingError, CgroupGoneError):
            return None
        except KernelFileError as error:
            self._failed(error)
            return None
        # A process that is gone from its cgroup shows the root; ".." is outside our cgroup namespace.
        return None if path == "/" or path.startswith("/..") else path


def has_the_kernels_pids(proc_root: str) -> bool:
    """Tell whether the pids of the kernel's log are those of ``proc_root``."""
    try:
        pid = 1 if is_foreign(proc_root) else os.getpid()
        return namespace(proc_root, pid, "pid") == _INIT_PID_NAMESPACE
    except KernelFileError:
        return False
