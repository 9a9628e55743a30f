"""A snapshot as what the ledger reads: the counters of every cgroup, and the node's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cgwatch.cgroup.memory import MemoryEvents, MemoryStats
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Container, Description, Kind, Owner, Sample
from cgwatch.oom.kill import Holder
from cgwatch.oom.observation import CgroupCounters, ContainerDied, spelled

_NO_EVENTS = MemoryEvents()


class Counters:
    """Makes the counters of each cgroup; the very same object again while nothing of it has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Container, MemoryEvents, MemoryEvents, CgroupCounters]] = {}

    def of(self, samples: Iterable[Sample]) -> tuple[CgroupCounters, ...]:
        """Return the counters of all cgroups that there are."""
        known, self._known = self._known, {}
        found = []
        for sample in samples:
            container, memory = sample.container, sample.memory
            events = memory.events if memory else _NO_EVENTS
            local = memory.events_local if memory else _NO_EVENTS
            path = container.cgroup.path
            before = known.get(path)
            if before is None or (before[0], before[1], before[2]) != (container, events, local):
                before = (container, events, local, counters_of(container, memory))
            self._known[path] = before
            found.append(before[3])
        return tuple(found)


def counters_of(container: Container, memory: MemoryStats | None) -> CgroupCounters:
    """Return the counters of one cgroup."""
    events = memory.events if memory else _NO_EVENTS
    local = memory.events_local if memory else _NO_EVENTS
    described = container.description
    is_container = container.owner.kind is Kind.CONTAINER
    return CgroupCounters(
        holder=holder_of(container),
        own=local.oom_kill,
        within=events.oom_kill,
        oom=local.oom,
        group_kills=local.oom_group_kill,
        init_pid=described.pid if described and is_container else None,
    )


def holder_of(container: Container) -> Holder:
    """Return whom kills in a cgroup count for."""
    described = container.description
    return Holder(
        path=spelled(container.cgroup.path),
        inode=container.cgroup.inode,
        owner=container.owner,
        name=described.name if described else None,
        image=described.image if described else None,
    )


def death_of(
    container_id: str,
    described: Description | None,
    holders: Mapping[str, Holder],
    *,
    action: str,
    seconds: float,
    exit_code: int | None,
) -> ContainerDied | None:
    """Return what a runtime's event says of a container; ``None``: nothing that the ledger wants.

    ``holders``: of the containers whose cgroups are there, by container id.
    """
    if action not in ("die", "oom"):
        return None
    holder = holders.get(container_id)
    if holder is None:
        if described is None:
            return None  # nobody knows whom it would name
        holder = Holder(
            path=spelled(described.cgroup_path) if described.cgroup_path else None,
            inode=None,
            owner=_owner_of(container_id, described),
            name=described.name,
            image=described.image,
        )
    return ContainerDied(
        container_id, seconds, holder, oom=action == "oom", exit_code=exit_code if action == "die" else None
    )


def _owner_of(container_id: str, described: Description) -> Owner:
    if described.cgroup_path is not None:
        return recognise(described.cgroup_path)
    return Owner(Kind.CONTAINER, described.runtime, container_id)
