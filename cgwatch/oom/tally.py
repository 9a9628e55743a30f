"""OOM kills by whom they count for: numbers that only rise, for as long as anyone may still ask. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from cgwatch.discovery.kubernetes import Place
from cgwatch.oom.kill import Cause, OomKill, Scope


class Series(Struct, frozen=True):
    """What tells two series of kills apart; empty where it is not known."""

    runtime: str
    namespace: str
    """Of Kubernetes."""
    pod: str
    """Its name; its uid where no runtime tells."""
    container: str
    """In Kubernetes the container's name in its pod; else as ``name``."""
    name: str
    """Of the container; of what is none, the path of its cgroup."""
    cause: Cause
    scope: Scope
    image: str = ""
    """If it is wanted."""


class Count(Struct, frozen=True):
    """How many kills a series has."""

    kills: int
    last_seconds: float
    """When the last one was, since the epoch."""


class Tally:
    """Counts kills that are settled by series, and attributed ones by the path of their holder.

    A series stays for ``retain_seconds`` after its last kill; of more than ``most_series`` the one that has
    been quiet for longest goes, and is counted.
    """

    def __init__(self, *, retain_seconds: float, most_series: int, with_image: bool = False) -> None:
        """``with_image``: a series for each image of a container."""
        self.with_image = with_image
        self._retain_seconds = retain_seconds
        self._most_series = most_series
        self._numbers: set[int] = set()
        self._attributed: set[int] = set()
        self.series: dict[Series, Count] = {}
        self.by_path: dict[str, int] = {}
        """Kills by the path of the cgroup that they count for: a container that is started anew keeps them.

        It is replaced, never changed: snapshots hold it.
        """
        self.unattributed_total = 0
        """Kills that are settled and count for nobody."""
        self.dropped_total = 0
        """Series that went before their time."""

    def oldest(self, now_seconds: float) -> float:
        """Return from when on kills are counted."""
        return now_seconds - self._retain_seconds

    def take(self, kills: Iterable[OomKill]) -> None:
        """Take kills, or new versions of them: each counts once."""
        for kill in kills:
            path = kill.holder.path if kill.holder else None
            if kill.attributed and path is not None and kill.number not in self._attributed:
                self._attributed.add(kill.number)
                self.by_path = {**self.by_path, path: self.by_path.get(path, 0) + kill.count}
            if kill.settled and kill.number not in self._numbers:
                self._numbers.add(kill.number)
                self._count(kill)
                self.unattributed_total += 0 if kill.attributed else kill.count
        while len(self.series) > self._most_series:
            quietest = min(self.series, key=lambda each: self.series[each].last_seconds)
            del self.series[quietest]
            self.dropped_total += 1

    def _count(self, kill: OomKill) -> None:
        series = series_of(kill, with_image=self.with_image)
        before = self.series.get(series, Count(0, 0.0))
        seconds = kill.killed_seconds or kill.found_seconds
        self.series[series] = Count(before.kills + kill.count, max(before.last_seconds, seconds))

    def forget(self, now_seconds: float, paths: Iterable[str]) -> None:
        """Let go what nobody asks for any more; ``paths``: the cgroups that there are."""
        oldest = self.oldest(now_seconds)
        self.series = {series: count for series, count in self.series.items() if count.last_seconds >= oldest}
        if len(self.by_path) > self._most_series:
            there = set(paths)
            self.by_path = {path: count for path, count in self.by_path.items() if path in there}
        for numbers in (self._numbers, self._attributed):
            if len(numbers) > _REMEMBERED:  # the ledger gives no new version of one that is long settled
                numbers.difference_update(sorted(numbers)[: len(numbers) - _REMEMBERED // 2])


_REMEMBERED = 100_000


def series_of(kill: OomKill, *, with_image: bool = False) -> Series:
    """Return the series that a kill counts in."""
    holder = kill.holder
    if holder is None:
        return Series("", "", "", "", "", kill.cause, kill.scope)
    owner = holder.owner
    place = holder.in_kubernetes or Place()
    name = holder.name or owner.container_id or holder.path or ""
    return Series(
        runtime=str(owner.runtime),
        namespace=place.namespace,
        pod=place.pod or owner.pod_uid or "",
        container=place.container or name,
        name=name,
        cause=kill.cause,
        scope=kill.scope,
        image=holder.image or "" if with_image else "",
    )
