"""Keeps the ledger of a running agent: tells it what happens, and stores what it says before it is shown."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from cgwatch.cgroup.memory import MemoryStats
from cgwatch.discovery.runtime import Lifecycle
from cgwatch.errors import CgwatchError, KernelFileError
from cgwatch.model import Container, Description, Kind, Snapshot
from cgwatch.oom import ledger
from cgwatch.oom.dialect import Dump, Told
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.forensics import collect
from cgwatch.oom.history import History
from cgwatch.oom.kill import Holder, OomKill, Source
from cgwatch.oom.observation import Observation, Reading
from cgwatch.oom.readings import Counters, death_of, holder_of
from cgwatch.oom.state import State
from cgwatch.oom.tally import Tally
from cgwatch.proc.machine import read_boot_id
from cgwatch.proc.vmstat import read_vmstat

LOG = logging.getLogger(__name__)

_SAVE_SECONDS = 60.0
"""How old the stored counters are at most: what was killed since then is found by the node's counter."""

_OPEN_EVIDENCE = 256
"""Kills that may still be told more of whose evidence is held: of a storm, the first so many have any."""
_OPEN_DUMPS = 64

Clock = Callable[[], float]


class Stored(Protocol):
    """A kill as the store has it."""

    @property
    def kill(self) -> OomKill:
        """The kill."""


class Store(Protocol):
    """Where kills and the ledger's state outlive the agent; its errors are ``CgwatchError``."""

    def save(
        self, kills: Iterable[OomKill], state: State, forensics: Mapping[int, Struct] | None = None
    ) -> None:
        """Store both in one transaction."""

    def state(self) -> State | None:
        """Return the state that was stored last."""

    def next_number(self) -> int:
        """Return the number of the next kill."""

    def kills(self, *, since_seconds: float) -> Iterable[Stored]:
        """Return the kills found since then."""


class Observer(Protocol):
    """Learns how the ledger does."""

    def oom_counted(self, source: str, seconds: float | None, /) -> None:
        """Take note of a kill: who told of it first, and how long after it, where the kernel's log says."""


class Listener(Protocol):
    """Is told of kills, to tell others."""

    def take(self, kill: OomKill, evidence: Evidence | None, /) -> None:
        """Take a kill, or a later version of it, after it was stored; it must not wait for anything."""


class Keeper:
    """Not thread-safe: the agent's core thread calls it."""

    def __init__(
        self,
        *,
        proc_root: str,
        clock: Clock,
        monotonic: Clock,
        tally: Tally,
        observer: Observer,
        failed: Callable[[KernelFileError], None],
        store: Store | None = None,
        reads_log: bool = False,
    ) -> None:
        """``reads_log``: observations of the kernel's log are going to come."""
        self._proc_root = proc_root
        self._clock = clock
        self._monotonic = monotonic
        self._observer = observer
        self._failed = failed
        self._store = store
        self._reads_log = reads_log
        self.counters = Counters()
        self._holders: dict[str, Holder] = {}
        self._saved_seconds = 0.0
        self._unsaved: dict[int, OomKill] = {}
        self._seen: set[int] = set()
        self._first_number = 1  # what comes before it was told by the agent before this one
        self._state: State | None = None
        self._history = History()
        self._evidence: dict[int, Evidence] = {}
        self._dumps: dict[int, Dump] = {}
        self._began_seconds = clock()
        self._now: Snapshot | None = None
        self.tally = tally
        self.store_failures_total = 0
        self.has_node_counter = False
        """The last time, ``/proc/vmstat`` told how many kills the node had."""
        self._stored = True
        self.listener: Listener | None = None
        self._untold: list[OomKill] = []

    @property
    def state(self) -> State | None:
        """The ledger's state; ``None`` before the first snapshot."""
        return self._state

    @property
    def is_stored(self) -> bool:
        """Whether what the ledger says outlives the agent: the last time, it could be stored."""
        return self._store is not None and self._stored

    def begin(self, boot_id: str | None = None) -> State:
        """Go on from what is stored, if it is of this boot; return the ledger's state."""
        saved: State | None = None
        next_number = 1
        if self._store is not None:
            try:
                saved = self._store.state()
                next_number = self._store.next_number()
                self.tally.take(
                    stored.kill
                    for stored in self._store.kills(since_seconds=self.tally.oldest(self._clock()))
                )
            except CgwatchError as error:
                self._could_not_store(error)
        state, kills = ledger.begin(
            saved,
            boot_id=self._boot_id() if boot_id is None else boot_id,
            seconds=self._clock(),
            reads_log=self._reads_log,
            next_number=next_number,
        )
        self._state = state
        self._first_number = next_number
        self._take(kills)
        return state

    def sampled(self, snapshot: Snapshot) -> None:
        """Take the counters of all cgroups; the node's is read last, since it is ahead of all others."""
        self._now = snapshot
        if self._state is None:
            self.begin(snapshot.machine.boot_id if snapshot.machine else "")
        had_base = self._state is not None and self._state.has_base
        counters = self.counters.of(snapshot.samples)
        if not self._holders or len(counters) != len(self._holders):
            self._holders = {
                sample.container.owner.container_id: holder_of(sample.container)
                for sample in snapshot.samples
                if sample.container.owner.kind is Kind.CONTAINER and sample.container.owner.container_id
            }
        self.observe(Reading(self._clock(), self._monotonic(), counters, self._node_total(), complete=True))
        self._history.take(snapshot)  # only now: evidence is of before the kills that it shows
        self.tally.forget(self._clock(), (sample.container.cgroup.path for sample in snapshot.samples))
        due = self._monotonic() - self._saved_seconds >= _SAVE_SECONDS
        if due or not had_base or self._unsaved:
            self.save()

    def looked(self, found: Iterable[tuple[Container, MemoryStats | None]]) -> None:
        """Take the counters of a few cgroups, the innermost first: something happened there."""
        counters = tuple(self.counters.of_one(container, memory) for container, memory in found)
        self.observe(Reading(self._clock(), self._monotonic(), counters, self._node_total()))

    def path_of(self, container_id: str) -> str | None:
        """Return the path of a container's cgroup, if it was in the last snapshot."""
        holder = self._holders.get(container_id)
        return holder.path if holder else None

    def died(self, event: Lifecycle, described: Description | None) -> None:
        """Take what a runtime said of a container's end."""
        death = death_of(event, described, self._holders)
        if death is not None:
            self.observe(death)

    def told(self, told: Told) -> None:
        """Take a kill that the kernel's log tells, and keep what is around it for its evidence."""
        if told.dump is not None:
            if len(self._dumps) >= _OPEN_DUMPS:
                del self._dumps[next(iter(self._dumps))]
            self._dumps[told.kill.sequence] = told.dump
        self.observe(told.kill)

    def observe(self, observation: Observation) -> None:
        """Tell the ledger; what it says is stored, then counted."""
        if self._state is None:
            return
        self._state, kills = ledger.observe(self._state, observation)
        self._take(kills)
        if self._unsaved:
            self.save()

    def save(self) -> None:
        """Store the state, and the kills that could not be stored before."""
        if self._store is None or self._state is None:
            self._tell()
            self._forget_evidence()
            return
        try:
            self._store.save(self._unsaved.values(), self._state, self._evidence)
        except CgwatchError as error:
            self._could_not_store(error)
            self._stored = False
            self._tell()  # a full disk is no reason to be silent
            return
        self._stored = True
        self._tell()
        self._saved_seconds = self._monotonic()
        self._forget_evidence()

    def _forget_evidence(self) -> None:
        for number, kill in self._unsaved.items():
            if kill.settled:
                self._evidence.pop(number, None)
        self._unsaved.clear()

    def _tell(self) -> None:
        if self.listener is not None:
            for kill in self._untold:
                self.listener.take(kill, self._evidence.get(kill.number))
        self._untold.clear()

    def _take(self, kills: Iterable[OomKill]) -> None:
        for kill in kills:
            self._unsaved[kill.number] = kill
            self._untold.append(kill)
            if self._store is not None or self.listener is not None:
                self._collect(kill)
            if kill.number >= self._first_number and kill.number not in self._seen:
                self._seen.add(kill.number)
                self._note(kill)
        self.tally.take(kills)

    def _collect(self, kill: OomKill) -> None:
        before = self._evidence.get(kill.number)
        if kill.found_seconds < self._began_seconds or (
            before is None and (kill.number in self._seen or len(self._evidence) >= _OPEN_EVIDENCE)
        ):
            return  # an earlier run, or version, has stored what there was
        dump = self._dumps.pop(kill.log_sequence, None) if kill.log_sequence is not None else None
        self._evidence[kill.number] = collect(
            kill,
            self._history,
            self._now,
            before=before,
            dump=dump,
            page_bytes=resource.getpagesize(),
        )

    def _note(self, kill: OomKill) -> None:
        source = str(kill.sources[0]) if kill.sources else str(Source.NODE)
        is_timed = kill.killed_seconds is not None and not kill.while_down
        after = kill.found_seconds - (kill.killed_seconds or 0.0) if is_timed else None
        self._observer.oom_counted(source, after)
        holder = kill.holder
        LOG.warning(
            "OOM kill",
            extra={
                "number": kill.number,
                "container": (holder.name or holder.path) if holder else kill.path or "not known yet",
                "command": kill.victim.command if kill.victim else "",
                "kills": kill.count,
            },
        )

    def _could_not_store(self, error: CgwatchError) -> None:
        self.store_failures_total += 1
        if self.store_failures_total == 1:
            LOG.error(
                "OOM kills cannot be stored; they are counted, and stored when it is possible again",
                extra={"problem": str(error)},
            )

    def _boot_id(self) -> str:
        try:
            return read_boot_id(self._proc_root)
        except KernelFileError as fault:
            self._failed(fault)
            return ""

    def _node_total(self) -> int | None:
        total = None
        try:
            total = read_vmstat(self._proc_root).oom_kills_total
        except KernelFileError as fault:
            self._failed(fault)
        self.has_node_counter = total is not None
        return total
