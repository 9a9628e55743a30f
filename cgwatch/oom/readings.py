"""A snapshot as what the ledger reads: the counters of every cgroup, and the node's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from cgwatch.cgroup.memory import MemoryEvents, MemoryStats
from cgwatch.discovery.kubernetes import Place, place_of
from cgwatch.discovery.recognise import recognise
from cgwatch.discovery.runtime import Lifecycle
from cgwatch.model import Container, Description, Kind, Owner, Sample
from cgwatch.oom.kill import Holder
from cgwatch.oom.observation import CgroupCounters, ContainerDied, spelled

_NO_EVENTS = MemoryEvents()


class Counters:
    """Makes the counters of each cgroup; the very same object again while nothing of it has changed."""

    def __init__(self) -> None:
        self.events_are_local = False
        """``memory.events`` counts a cgroup alone, as ``Hierarchy.has_local_events`` says."""
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
                before = (container, events, local, self.of_one(container, memory))
            self._known[path] = before
            found.append(before[3])
        return tuple(found)

    def of_one(self, container: Container, memory: MemoryStats | None) -> CgroupCounters:
        """Return the counters of one cgroup."""
        counters = counters_of(container, memory)
        return structs.replace(counters, within=None) if self.events_are_local else counters


def counters_of(container: Container, memory: MemoryStats | None) -> CgroupCounters:
    """Return the counters of one cgroup whose ``memory.events`` counts what is below it as well."""
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
        in_kubernetes=_in_kubernetes(described.labels if described else {}),
    )


def _in_kubernetes(labels: Mapping[str, str]) -> Place | None:
    place = place_of(labels)
    return None if place == Place() else place


def death_of(
    event: Lifecycle, described: Description | None, holders: Mapping[str, Holder]
) -> ContainerDied | None:
    """Return what a runtime's event says of a container; ``None``: nothing that the ledger wants.

    ``holders``: of the containers whose cgroups are there, by container id. One that was made and killed
    between two ticks is in none of these; the event itself has its name then.
    """
    if event.action not in ("die", "oom"):
        return None
    identity = event.container_id
    holder = holders.get(identity)
    said = described.name if described else event.attributes.get("name")
    image = described.image if described else event.attributes.get("image")
    place = _in_kubernetes(described.labels if described else event.attributes)  # has the labels, too
    if holder is None:
        path = described.cgroup_path if described else None
        owner = recognise(path) if path else Owner(Kind.CONTAINER, event.runtime, identity)
        holder = Holder(spelled(path) if path else None, None, owner, said, image, place)
    elif holder.name is None:
        holder = structs.replace(holder, name=said, image=image, in_kubernetes=place)
    exit_code = event.exit_code if event.action == "die" else None
    return ContainerDied(identity, event.time_seconds, holder, oom=event.action == "oom", exit_code=exit_code)
