"""Where all that concerns OOM kills comes together in the agent's core: samples, sources, and the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Protocol

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.discovery.runtime import Lifecycle
from cgwatch.model import Description, Kind, Snapshot
from cgwatch.oom.dialect import Told
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.observation import LimitWrite, LogLost, LogPlace
from cgwatch.oom.readings import holder_of
from cgwatch.oom.sources import Look, Message, SourceState
from cgwatch.oom.userspace import Marked, UserspaceKills
from cgwatch.oom.watching import Watched
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.sampler import Sampler

LOG = logging.getLogger(__name__)

_MARKS_SECONDS = 30.0


class Watcher(Protocol):
    """Tells at once what happens in cgroups."""

    def watch(self, cgroups: Mapping[str, Watched], /) -> None:
        """Watch these from now on, and no others."""

    def catch_up(self, after: LogPlace | None, /) -> Iterable[Message]:
        """Return what was logged since that place."""


class OomDesk:
    """Not thread-safe: the agent's core thread calls it."""

    def __init__(
        self,
        keeper: Keeper,
        sampler: Sampler,
        watcher: Watcher,
        *,
        memory: Hierarchy | None,
        source_is: Callable[[str, bool], None],
    ) -> None:
        """``memory``: the hierarchy of the memory controller. ``source_is`` learns which sources tell."""
        self.keeper = keeper
        self._sampler = sampler
        self._watcher = watcher
        self._memory = memory
        self._source_is = source_is
        self._followed: list[Followed] = []
        self._unified = sampler.hierarchies.unified
        self._marks_due_seconds = 0.0
        self._sources: dict[str, bool] = {}
        self.userspace = UserspaceKills()
        keeper.counters.events_are_local = memory is not None and memory.has_local_events

    def begin(self) -> None:
        """Go on where the ledger was left, and the kernel's log: that is read before the first sample is."""
        state = self.keeper.begin()
        for message in self._watcher.catch_up(state.log_place):
            self.take(message)

    def sampled(self, snapshot: Snapshot) -> Mapping[str, int]:
        """Take a snapshot; return the kills by the path of the cgroup that they count for."""
        self.keeper.sampled(snapshot)
        followed = list(self._sampler.followed)
        if len(followed) != len(self._followed) or not all(map(is_, followed, self._followed)):
            self._followed = followed
            self._watch()
        self._look_for_marks(snapshot)
        self._tell_sources(snapshot)
        return self.keeper.tally.by_path

    def _look_for_marks(self, snapshot: Snapshot) -> None:
        """Look now and then whom daemons have killed."""
        if self._unified is not None and snapshot.monotonic_seconds >= self._marks_due_seconds:
            self._marks_due_seconds = snapshot.monotonic_seconds + _MARKS_SECONDS
            marked = [found for each in self._followed if (found := self._marked(each)) is not None]
            self.userspace.look(marked, complete=True)

    def _marked(self, followed: Followed) -> Marked | None:
        if self._unified is None or self._unified not in followed.places or followed.path == "/":
            return None
        return Marked(holder_of(followed.container), self._unified.locate(followed.path))

    def _tell_sources(self, snapshot: Snapshot) -> None:
        """Say which of the sources that are read at each tick there are."""
        keeper = self.keeper
        local = (sample.memory.events_local for sample in snapshot.samples if sample.memory)
        said = {
            "node_counter": keeper.has_node_counter,
            "cgroup_counters": any(events.oom_kill is not None for events in local),
            "database": keeper.is_stored,
        }
        for source, available in said.items():
            if self._sources.get(source) is not available:
                self._sources[source] = available
                self._source_is(source, available)

    def _watch(self) -> None:
        memory = self._memory
        if memory is not None:
            self._watcher.watch(
                {
                    each.path: Watched(each.places[memory], each.container.owner.kind is Kind.CONTAINER)
                    for each in self._followed
                    if memory in each.places and each.path != "/"
                }
            )

    def died(self, event: Lifecycle, described: Description | None) -> None:
        """Take what a runtime said of a container; at its end its cgroup may be there for one last look."""
        path = self.keeper.path_of(event.container_id) if event.action in ("die", "oom") else None
        if path is not None:
            self.keeper.looked(self._sampler.look(path))
            ended = (self._marked(each) for each in self._followed if each.path == path)
            self.userspace.look([found for found in ended if found is not None])
        self.keeper.died(event, described)

    def take(self, message: Message | LimitWrite) -> None:
        """Take what a source told, or whoever writes limits."""
        match message:
            case Told():
                self.keeper.told(message)
            case LogLost() | LogPlace() | LimitWrite():
                self.keeper.observe(message)
            case Look(path):
                self.keeper.looked(self._sampler.look(path))
            case SourceState(source, available, detail):
                self._source_is(str(source), available)
                level = logging.INFO if available else logging.WARNING
                LOG.log(level, "source of OOM kills", extra={"source": str(source), "detail": detail})
