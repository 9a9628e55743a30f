"""What /proc tells of the processes of each cgroup, with those of all below it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError
from cgwatch.model import Cgroup, Kind, Tasks
from cgwatch.proc.descriptors import Descriptors, add_descriptors, read_all_descriptors
from cgwatch.proc.limits import ResourceLimit, read_limits
from cgwatch.proc.reading import number, parsed, read_bytes
from cgwatch.proc.schedstat import Schedstat, Schedstats, SchedTotals, read_schedstats
from cgwatch.proc.states import TaskStates, add_states, load_average, read_task_states
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.network import INIT, NORMAL
from cgwatch.sampling.rounds import Rounds

T = TypeVar("T")
Failed = Callable[[KernelFileError], None]
Fields = dict[str, Any]
"""Fields of a ``model.Detail``."""

PARTS = frozenset({"tasks", "sched", "open_files", "limits"})
"""What is read here, by its field in ``model.Detail``."""
MOST_PROCESSES = 10_000
"""Of one cgroup: some 0.3 s for all parts."""

_SHOWN_LIMIT = "max_open_files"


class Look(Struct, frozen=True):
    """Processes at one moment. ``None``: it cannot be told, or is not wanted."""

    states: TaskStates | None = None
    open_files: Descriptors | None = None
    has_sched: bool = False


class _Known:
    """What is known of one cgroup."""

    def __init__(self) -> None:
        self.own: Look | None = None
        """Its own processes, at the last look."""
        self.whole: Look | None = None
        """With those of all below it; ``None`` until each of these was looked at."""
        self.own_sched = SchedTotals()
        self.sched = Schedstat()
        """With all below it that there are, or ever were: it never goes down."""
        self.limits: Mapping[str, ResourceLimit] | None = None
        self._loads: tuple[float, float] | None = None
        self._loaded_seconds = 0.0

    def add_up(self, below: Sequence[Look | None]) -> bool:
        """Make the sum with what is ``below``; tell whether it is whole."""
        looks = [look for look in (*below, self.own) if look is not None]
        if self.whole is None and len(looks) <= len(below):
            return False
        self.whole = (
            looks[0]
            if len(looks) == 1
            else Look(
                _total(add_states, [look.states for look in looks]),
                _total(add_descriptors, [look.open_files for look in looks]),
                all(look.has_sched for look in looks),
            )
        )
        return True

    def tasks(self, states: TaskStates, now_seconds: float) -> Tasks:
        """Return the states with the load averages; the time from one call to the next counts for these."""
        elapsed_seconds = now_seconds - self._loaded_seconds
        running, uninterruptible = self._loads or (None, None)
        self._loads = (
            load_average(running, states.running, elapsed_seconds),
            load_average(uninterruptible, states.uninterruptible, elapsed_seconds),
        )
        self._loaded_seconds = now_seconds
        return Tasks(states, *self._loads)


class ProcessReader:
    """Looks at the processes of each cgroup once in an interval. Each process is read for its own cgroup."""

    def __init__(
        self,
        *,
        proc_root: str,
        parts: frozenset[str],
        rounds: Rounds[Cgroup],
        monotonic: Callable[[], float],
        knows_pids: bool,
        failed: Failed,
    ) -> None:
        """``parts``: some of ``PARTS``. ``knows_pids``: pids in cgroup files are those of ``proc_root``."""
        self._proc_root = proc_root
        self._parts = parts
        self._rounds = rounds
        self._monotonic = monotonic
        # Mounted with hidepid=2 (proc(5)), /proc shows no process of others: as if all of them had ended.
        self._knows_pids = knows_pids and os.path.exists(f"{proc_root}/{INIT}")
        self._failed = failed
        self._known: dict[Cgroup, _Known] = {}
        self._kernel_counts = False  # schedstat: without CONFIG_SCHED_INFO it is missing, or all 0

    def read(
        self, followed: Mapping[str, Followed], counts: Mapping[str, int], pids: Mapping[str, int]
    ) -> dict[Cgroup, Fields]:
        """Return what is new, by cgroup.

        ``counts`` has the paths of the cgroups whose processes the kernel lists, ``pids`` one process of each
        that has any.
        """
        here = {each.container.cgroup: each for path, each in followed.items() if path in counts}
        changed = self._forget(here, followed)
        for cgroup in self._rounds.take(here):
            grown = self._look(here[cgroup], pids.get(cgroup.path))
            for above in _upwards(here[cgroup], followed):
                self._known[above].sched += grown
                changed.add(above)
        return self._add_up(here, followed, changed) if changed else {}

    def _forget(self, here: Mapping[Cgroup, Followed], followed: Mapping[str, Followed]) -> set[Cgroup]:
        """Forget the cgroups that went, make room for the new ones; return what has changed by that."""
        changed: set[Cgroup] = set()
        for cgroup in self._known.keys() - here.keys():
            del self._known[cgroup]
            above = followed.get(_parent(cgroup.path))
            changed.update(_upwards(above, followed) if above else ())
        for cgroup in here.keys() - self._known.keys():
            self._known[cgroup] = _Known()
        return changed & here.keys()

    def _add_up(
        self, here: dict[Cgroup, Followed], followed: Mapping[str, Followed], changed: set[Cgroup]
    ) -> dict[Cgroup, Fields]:
        found: dict[Cgroup, Fields] = {}
        below: defaultdict[Cgroup, list[Look | None]] = defaultdict(list)
        now_seconds = self._monotonic()
        # Ordered by path, a cgroup comes before all below it: backwards, each is complete when it is reached.
        for cgroup, each in reversed(here.items()):
            known = self._known[cgroup]
            if cgroup in changed and known.add_up(below.pop(cgroup, [])):
                found[cgroup] = self._fields(known, now_seconds)
            above = _above(each, followed)
            if above is not None and above.container.cgroup in changed:
                below[above.container.cgroup].append(known.whole)
        return found

    def _fields(self, known: _Known, now_seconds: float) -> Fields:
        whole = known.whole or Look()
        return {
            "tasks": known.tasks(whole.states, now_seconds) if whole.states is not None else None,
            "sched": known.sched if whole.has_sched and self._kernel_counts else None,
            "open_files": whole.open_files,
            "limits": known.limits,
        }

    def _look(self, here: Followed, first_pid: int | None) -> Schedstat:
        """Look at a cgroup's own processes; return what they have run and waited since the last time."""
        known = self._known[here.container.cgroup]
        pids = self._own_pids(here)
        if "limits" in self._parts:
            known.limits = self._limits(_init_process(here, pids, first_pid))
        if pids is None:
            known.own = Look()
            return Schedstat()
        read, rest = pids[:MOST_PROCESSES], pids[MOST_PROCESSES:]
        seen = self._schedstats(read, rest) if "sched" in self._parts else None
        known.own = Look(
            states=self._states(pids) if "tasks" in self._parts else None,
            open_files=self._open_files(read, rest) if "open_files" in self._parts else None,
            has_sched=seen is not None,
        )
        if seen is None:
            return Schedstat()
        before, known.own_sched = known.own_sched, known.own_sched.after(seen)
        return known.own_sched.total - before.total

    def _own_pids(self, here: Followed) -> list[int] | None:
        """Return the processes of this very cgroup; ``None`` where /proc has other numbers for them."""
        path = f"{here.home.locate(here.path)}/cgroup.procs"
        try:
            pids = parsed(path, read_bytes(path), parse_pids) if self._knows_pids else None
        except (FileMissingError, CgroupGoneError):
            return []
        except KernelFileError as fault:
            self._report(fault)
            return None
        return None if pids is None or 0 in pids else pids

    def _states(self, pids: list[int]) -> TaskStates | None:
        return self._told(lambda failed: read_task_states(self._proc_root, pids, failed=failed))

    def _schedstats(self, pids: list[int], unread: list[int]) -> Schedstats | None:
        seen = self._told(lambda failed: read_schedstats(self._proc_root, pids, failed=failed))
        if seen is None:
            return None
        self._kernel_counts |= any(each.run_periods_total for each in seen.processes.values())
        return Schedstats(seen.processes, seen.unread | set(unread)) if unread else seen

    def _open_files(self, pids: list[int], unread: list[int]) -> Descriptors | None:
        found = self._told(lambda failed: read_all_descriptors(self._proc_root, pids, failed=failed))
        if found is None or not unread:
            return found
        return Descriptors(found.open_files, found.sockets, open_files_cut=True, sockets_cut=True)

    def _limits(self, pid: int | None) -> Mapping[str, ResourceLimit] | None:
        try:
            limits = read_limits(self._proc_root, pid) if pid is not None else {}
        except KernelFileError as fault:
            self._report(fault)
            return None
        return {_SHOWN_LIMIT: limits[_SHOWN_LIMIT]} if _SHOWN_LIMIT in limits else None

    def _told(self, read: Callable[[Failed], T]) -> T | None:
        """Return what ``read`` gives, ``None`` where a process may not be looked at."""
        faults: list[KernelFileError] = []
        found = read(faults.append)
        is_told = True
        for fault in faults:
            is_told = self._report(fault) and is_told
        return found if is_told else None

    def _report(self, fault: KernelFileError) -> bool:
        """Tell whether it is a failure, and then count it."""
        is_failure = not isinstance(fault, NORMAL)
        if is_failure:
            self._failed(fault)
        return is_failure


def parse_pids(data: bytes) -> list[int]:
    """Return the pids of a ``cgroup.procs``, each once; ``ValueError`` says what is wrong."""
    return list(dict.fromkeys(number(token) for token in data.split()))


def _init_process(here: Followed, pids: Sequence[int] | None, first_pid: int | None) -> int | None:
    """The process that the runtime names, unless that one has ended and the cgroup lives on."""
    if here.container.owner.kind is Kind.ROOT:
        return INIT
    description = here.container.description
    said = description.pid if description else None
    return said if said is not None and (not pids or said in pids) else first_pid


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _above(here: Followed, followed: Mapping[str, Followed]) -> Followed | None:
    """The cgroup that counts the processes of this one, too."""
    above = followed.get(_parent(here.path))
    # A hierarchy without this cgroup has its processes in one further up.
    return above if above is not None and above is not here and above.home is here.home else None


def _upwards(here: Followed, followed: Mapping[str, Followed]) -> Iterator[Cgroup]:
    above: Followed | None = here
    while above is not None:
        yield above.container.cgroup
        above = _above(above, followed)


def _total(add: Callable[[Sequence[T]], T], parts: Sequence[T | None]) -> T | None:
    told = [part for part in parts if part is not None]
    return add(told) if len(told) == len(parts) else None
