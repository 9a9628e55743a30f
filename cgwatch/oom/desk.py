"""Where all that concerns OOM kills comes together in the agent's core: samples, sources, and the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from operator import is_
from typing import Protocol

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.model import Kind, Snapshot
from cgwatch.oom.dialect import Told
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.observation import LimitWrite, LogLost
from cgwatch.oom.sources import Look, Message, SourceState
from cgwatch.oom.watching import Watched
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.sampler import Sampler

LOG = logging.getLogger(__name__)


class Watcher(Protocol):
    """Tells at once what happens in cgroups."""

    def watch(self, cgroups: Mapping[str, Watched], /) -> None:
        """Watch these from now on, and no others."""


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

    def sampled(self, snapshot: Snapshot) -> Mapping[str, int]:
        """Take a snapshot; return the kills by the path of the cgroup that they count for."""
        self.keeper.sampled(snapshot)
        followed = list(self._sampler.followed)
        if len(followed) != len(self._followed) or not all(map(is_, followed, self._followed)):
            self._followed = followed
            self._watch()
        return self.keeper.tally.by_path

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

    def take(self, message: Message | LimitWrite) -> None:
        """Take what a source told, or whoever writes limits."""
        match message:
            case Told():
                self.keeper.told(message)
            case LogLost() | LimitWrite():
                self.keeper.observe(message)
            case Look(path):
                self.keeper.looked(self._sampler.look(path))
            case SourceState(source, available, detail):
                self._source_is(str(source), available)
                level = logging.INFO if available else logging.WARNING
                LOG.log(level, "source of OOM kills", extra={"source": str(source), "detail": detail})
