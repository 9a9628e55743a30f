"""What can be concluded of one kill from its evidence, ``None`` where nothing can. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from cgwatch.model import Runtime
from cgwatch.oom.evidence import Breakdown, Evidence, Involved, Limit, Memory, Share
from cgwatch.oom.history import Point
from cgwatch.oom.kill import Cause, OomKill, Scope
from cgwatch.oom.shape import Growth, growth_of
from cgwatch.oom.state import is_within

_STALE_RATIO = 0.6
"""Of the limit: a last sample of less does not show what filled the rest."""
_DOMINANT_RATIO = 0.5
_MOST_RATIO = 0.8
_ENOUGH_AVAILABLE_RATIO = 0.05
"""Of the node's memory: with more than that available, it was no shortage of the node."""
_RECLAIMABLE_RATIO = 0.1
_GROUP_SECONDS = 2.0
"""Within it the kernel kills all processes of a group."""
_LONG_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}")
_ID_LENGTH = 12


class Consumer(StrEnum):
    """What most of the memory was."""

    ANON = "anon"
    """Heap and stacks of processes."""
    CACHE = "cache"
    """Page cache of files."""
    SHMEM = "shmem"
    """Files in a tmpfs, or shared memory."""
    KERNEL = "kernel"
    MIXED = "mixed"
    UNKNOWN = "unknown"


class Composition(Struct, frozen=True):
    """What the memory of the cgroup whose limit was hit (or of the holder) was made of."""

    path: str
    usage_bytes: int
    breakdown: Breakdown
    before_seconds: float
    """How long before the kill; 0: at the kill, by the kernel's log."""

    @property
    def cache_bytes(self) -> int | None:
        """Page cache of files that are on a disk."""
        parts = self.breakdown
        if parts.file_bytes is None:
            return None
        return max(0, parts.file_bytes - (parts.shmem_bytes or 0))

    @property
    def reclaimable_bytes(self) -> int | None:
        """What the kernel could have dropped there and then: clean page cache, and slab of caches."""
        cache, parts = self.cache_bytes, self.breakdown
        if cache is None:
            return None
        busy = (parts.file_dirty_bytes or 0) + (parts.file_writeback_bytes or 0)
        return max(0, cache - busy) + (parts.slab_reclaimable_bytes or 0)

    @property
    def parts(self) -> dict[Consumer, int]:
        """The parts that are known and not nothing, the largest first."""
        parts = self.breakdown
        found = {
            Consumer.ANON: parts.anon_bytes,
            Consumer.CACHE: self.cache_bytes,
            Consumer.SHMEM: parts.shmem_bytes,
            Consumer.KERNEL: parts.kernel_bytes,
        }
        known = {consumer: size for consumer, size in found.items() if size}
        return dict(sorted(known.items(), key=lambda each: -each[1]))


class Case(Struct, frozen=True):
    """One kill, its evidence and what follows from them."""

    kill: OomKill
    evidence: Evidence | None
    earlier: tuple[OomKill, ...]
    """Earlier kills of the same holder, the newest first."""
    limit: Limit | None
    """The one that was hit; ``None``: not known, or there was none."""
    is_inferred: bool
    """The kernel did not name the limit, but no other can have been hit."""
    composition: Composition | None
    is_stale: bool
    """The composition is of so much less than the limit that it does not show what filled it."""
    consumer: Consumer
    growth: Growth | None
    """Of the cgroup whose limit was hit, else of the holder."""
    holders_growth: Growth | None
    """Of the holder, where the limit was another's."""
    could_reclaim: bool | None

    @property
    def moment_seconds(self) -> float:
        """When it was killed, or else found, since the epoch."""
        return moment_of(self.kill)

    @property
    def together(self) -> tuple[OomKill, ...]:
        """The kills of one and the same group kill, this one first; it alone where it was none."""
        if self.kill.scope is not Scope.GROUP:
            return (self.kill,)
        return (self.kill, *(each for each in self.earlier if self._is_of_the_same_moment(each)))

    @property
    def before(self) -> tuple[OomKill, ...]:
        """Earlier kills of the same holder that were not of the same group kill, the newest first."""
        return tuple(each for each in self.earlier if each not in self.together)

    def _is_of_the_same_moment(self, other: OomKill) -> bool:
        is_close = abs(moment_of(other) - self.moment_seconds) <= _GROUP_SECONDS
        return other.scope is Scope.GROUP and other.limit_path == self.kill.limit_path and is_close

    @property
    def name(self) -> str:
        """The holder, as people call it."""
        return name_of(self.kill)

    @property
    def is_container(self) -> bool:
        """Tell whether the holder is a container of a runtime."""
        return self.kill.holder is not None and self.kill.holder.owner.container_id is not None

    @property
    def is_docker(self) -> bool:
        """Tell whether ``docker update`` can set its limit."""
        owner = self.kill.holder.owner if self.kill.holder else None
        return owner is not None and owner.runtime is Runtime.DOCKER and owner.pod_uid is None

    @property
    def is_holders_limit(self) -> bool:
        """Tell whether the limit was the holder's own, or one inside it."""
        path = self.kill.holder.path if self.kill.holder else None
        return self.limit is not None and path is not None and is_within(self.limit.path, path)

    def called(self, share: Share) -> str:
        """Return a container's name, or else where it is below the limit."""
        within = self.limit.path if self.limit else ""
        return share.name or shortened(
            share.path.removeprefix(within).lstrip("/") if within != "/" else share.path
        )

    @property
    def age_seconds(self) -> float | None:
        """How old the holder's cgroup was."""
        created = self.evidence.created_seconds if self.evidence else None
        return None if created is None else self.moment_seconds - created

    @property
    def growing(self) -> Consumer | None:
        """What most of the growth was, as far as the samples show it."""
        involved = _involved(self.kill, self.evidence, self.limit)
        return growing_of(involved.series.points) if involved else None

    @property
    def most_bytes(self) -> int | None:
        """What the holder can have had at most, beside all else on the node, at the last sample."""
        evidence = self.evidence
        last = evidence.holder.last if evidence and evidence.holder else None
        available = evidence.node.available_bytes if evidence and evidence.node else None
        if last is None or last.usage_bytes is None or available is None:
            return None
        return last.usage_bytes + available

    @property
    def swapped_bytes(self) -> int | None:
        """What lay in swap at the last sample."""
        involved = _involved(self.kill, self.evidence, self.limit)
        swapped = involved.series.swap_bytes if involved else ()
        return swapped[-1] if swapped else None

    @property
    def is_holders_growth(self) -> bool:
        """Tell whether the limit was another's, and half or more of what grew below it the holder's."""
        mine, all_of_it = self.holders_growth, self.growth
        if mine is None or all_of_it is None:
            return False
        return mine.last_bytes - mine.first_bytes >= (all_of_it.last_bytes - all_of_it.first_bytes) / 2

    @property
    def largest(self) -> tuple[Share, ...]:
        """Who used most below the limit, or on the node."""
        within = self.limit.path if self.limit else "/"
        shares = self.evidence.largest if self.evidence else ()
        return tuple(share for share in shares if is_within(share.path, within))


def moment_of(kill: OomKill) -> float:
    """Return when it was killed, or else found, since the epoch."""
    return kill.found_seconds if kill.killed_seconds is None else kill.killed_seconds


def shortened(path: str) -> str:
    """Return a cgroup's path with the ids of containers as short as ``docker ps`` has them."""
    return _LONG_ID.sub(r"\1", path)


def name_of(kill: OomKill) -> str:
    """Return whose a kill is, as people call it."""
    holder = kill.holder
    if holder is None:
        return kill.path or "not known"
    container_id = holder.owner.container_id
    return (
        holder.name or (container_id or "")[:_ID_LENGTH] or shortened(holder.path or kill.path or "not known")
    )


def case_of(kill: OomKill, evidence: Evidence | None, earlier: Sequence[OomKill] = ()) -> Case:
    """Conclude what can be."""
    limit, is_inferred = _limit(kill, evidence)
    composition = _composition(kill, evidence, limit) if evidence else None
    limit_bytes = limit.limit_bytes if limit else None
    is_stale = (
        composition is not None
        and limit_bytes is not None
        and composition.before_seconds > 0
        and composition.usage_bytes < _STALE_RATIO * limit_bytes
    )
    known = None if is_stale else composition
    involved = _involved(kill, evidence, limit)
    growth = holders_growth = None
    holder = evidence.holder if evidence else None
    if involved is not None and holder is not None and involved.path != holder.path:
        holders_growth = growth_of(holder.series.points, moment_of(kill), None)
    if involved is not None:
        hit_bytes = limit_bytes if limit is not None and involved.path == limit.path else None
        growth = growth_of(involved.series.points, moment_of(kill), hit_bytes)
    return Case(
        kill,
        evidence,
        tuple(earlier),
        limit,
        is_inferred,
        composition,
        is_stale,
        _consumer(known) if known else _victims(kill, limit_bytes),
        growth,
        holders_growth,
        _could_reclaim(known),
    )


def _limit(kill: OomKill, evidence: Evidence | None) -> tuple[Limit | None, bool]:
    if kill.cause is Cause.GLOBAL:
        return None, False
    limits = (evidence.limits if evidence else None) or ()
    path = kill.limit_path
    if path is not None:
        found = next((each for each in limits if each.path == path), None)
        at_kill = evidence.at_kill if evidence else None
        if at_kill is not None and at_kill.limit_bytes is not None:
            return Limit(path, at_kill.limit_bytes, at_kill.usage_bytes), False
        return found, False
    node = evidence.node if evidence else None
    if len(limits) != 1 or node is None or node.available_bytes is None:
        return None, False
    is_plenty = node.available_bytes > _ENOUGH_AVAILABLE_RATIO * node.total_bytes
    return (limits[0], True) if is_plenty else (None, False)


def _involved(kill: OomKill, evidence: Evidence | None, limit: Limit | None) -> Involved | None:
    """Return the cgroup whose memory tells how it came to the kill."""
    if evidence is None:
        return None
    if limit is not None and evidence.limit is not None and evidence.limit.path == limit.path:
        return evidence.limit
    is_elsewhere = kill.limit_path is not None and (
        evidence.holder is None or evidence.holder.path != kill.limit_path
    )
    return None if is_elsewhere and evidence.limit is None else evidence.limit or evidence.holder


def _composition(kill: OomKill, evidence: Evidence, limit: Limit | None) -> Composition | None:
    at_kill = evidence.at_kill
    if at_kill is not None and at_kill.usage_bytes is not None and at_kill.breakdown != Breakdown():
        path = limit.path if limit else kill.limit_path or "/"
        parts = at_kill.breakdown
        return Composition(path, at_kill.usage_bytes, parts, before_seconds=0)
    involved = _involved(kill, evidence, limit)
    last: Memory | None = involved.last if involved else None
    if involved is None or last is None or last.usage_bytes is None:
        return None
    before_seconds = max(0.001, moment_of(kill) - last.seconds)
    return Composition(involved.path, last.usage_bytes, last.breakdown, before_seconds)


def _consumer(composition: Composition) -> Consumer:
    parts = composition.parts
    if not parts or composition.breakdown.anon_bytes is None:
        return Consumer.UNKNOWN
    consumer, size = next(iter(parts.items()))
    return consumer if size >= _DOMINANT_RATIO * composition.usage_bytes else Consumer.MIXED


def growing_of(points: Sequence[Point]) -> Consumer | None:
    """Return what most of the growth between the first and the last sample was."""
    known = [point for point in points if point.usage_bytes is not None and point.anon_bytes is not None]
    if not known:
        return None
    first, last = known[0], known[-1]
    grown = {
        Consumer.ANON: (last.anon_bytes or 0) - (first.anon_bytes or 0),
        Consumer.SHMEM: (last.shmem_bytes or 0) - (first.shmem_bytes or 0),
        Consumer.KERNEL: (last.kernel_bytes or 0) - (first.kernel_bytes or 0),
    }
    consumer = max(grown, key=lambda each: grown[each])
    all_of_it = sum(max(0, size) for size in grown.values())
    return consumer if all_of_it and grown[consumer] >= _MOST_RATIO * all_of_it else None


def _victims(kill: OomKill, limit_bytes: int | None) -> Consumer:
    """Take the victim's own memory for it, where that alone was most of the limit."""
    victim = kill.victim
    if victim is None or limit_bytes is None:
        return Consumer.UNKNOWN
    if (victim.anon_bytes or 0) >= _DOMINANT_RATIO * limit_bytes:
        return Consumer.ANON
    if (victim.shmem_bytes or 0) >= _DOMINANT_RATIO * limit_bytes:
        return Consumer.SHMEM
    return Consumer.UNKNOWN


def _could_reclaim(composition: Composition | None) -> bool | None:
    reclaimable = composition.reclaimable_bytes if composition else None
    if composition is None or reclaimable is None:
        return None
    return reclaimable >= _RECLAIMABLE_RATIO * composition.usage_bytes
