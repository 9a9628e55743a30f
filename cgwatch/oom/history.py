"""The memory of every cgroup in the last minutes: small enough to keep for kills that may never come. Pure.

A tick is one ``_Frame``: an array of all cgroups' numbers, not an array for each cgroup. So forgetting one
is dropping one object, and a cgroup costs 48 bytes a tick. The last ticks are kept as they came, to show how
fast something grew; of older ones one in six seconds is kept.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from msgspec import Struct

from cgwatch.model import Cgroup, Kind, Sample, Snapshot
from cgwatch.oom.observation import spelled

KEPT_SECONDS = 300.0
SPACING_SECONDS = 6.0
"""Between two of the older points, at least."""
RECENT = 12
"""So many of the last ticks are all kept."""
MOST_CGROUPS = 1000
"""Of more than that, containers and what has a limit come first."""
_MOST_FRAMES = RECENT + int(KEPT_SECONDS / SPACING_SECONDS) + 2
_COLUMNS = 6
_MISSING_FRAMES = 3
"""A kill may be found a little after its cgroup went; what is gone for longer need not be looked for."""


class Point(Struct, frozen=True, gc=False):
    """One cgroup with all below it at one moment; ``None``: the kernel did not say."""

    seconds: float
    """Since the epoch."""
    usage_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    """With ``shmem_bytes``."""
    shmem_bytes: int | None = None
    kernel_bytes: int | None = None
    swap_bytes: int | None = None
    """Beside ``usage_bytes``: what was taken and does not lie in memory."""


class _Frame(Struct, frozen=True, gc=False):
    seconds: float
    cgroups: tuple[Cgroup, ...]
    """The same object in all frames, for as long as they are the same cgroups."""
    paths: tuple[str, ...]
    """Theirs."""
    values: array[float]
    """``_COLUMNS`` of each cgroup, not a number where the kernel did not say."""


class History:
    """Not thread-safe: the agent's core thread calls it."""

    def __init__(self) -> None:
        self.latest: Snapshot | None = None
        """The snapshot that was taken last."""
        self._frames: list[_Frame] = []

    def take(self, snapshot: Snapshot) -> None:
        """Take one more snapshot, and let go what is too old or too close to others."""
        self.latest = snapshot
        frames = self._frames
        seconds = snapshot.time_seconds
        samples = _chosen(snapshot.samples)
        cgroups = tuple([sample.container.cgroup for sample in samples])
        if frames and frames[-1].cgroups == cgroups:
            cgroups, paths = frames[-1].cgroups, frames[-1].paths
        else:
            paths = tuple([cgroup.path for cgroup in cgroups])
        frames.append(_Frame(seconds, cgroups, paths, _values(samples)))
        aged = len(frames) - RECENT - 1
        if aged > 0 and 0 <= frames[aged].seconds - frames[aged - 1].seconds < SPACING_SECONDS:
            del frames[aged]
        while len(frames) > _MOST_FRAMES or frames[0].seconds < seconds - KEPT_SECONDS:
            del frames[0]

    def points(self, path: str, *, until_seconds: float = math.inf) -> tuple[Point, ...]:
        """Return what is known of a cgroup up to that time, the oldest first.

        ``path`` as ``spelled``. Where there were several of that path one after the other, it is the last
        one that was there by then.
        """
        found: list[Point] = []
        cgroups: tuple[Cgroup, ...] = ()
        index, inode, missing = -1, None, 0
        for frame in reversed(self._frames):
            if frame.seconds > until_seconds:
                continue
            if frame.cgroups is not cgroups:
                cgroups = frame.cgroups
                index = _index(frame, path)
            if index < 0:
                missing += 1
                if missing > _MISSING_FRAMES:
                    break
                continue
            if inode is None:
                inode = cgroups[index].inode
            elif cgroups[index].inode != inode:
                break
            values = frame.values[index * _COLUMNS : (index + 1) * _COLUMNS]
            found.append(
                Point(frame.seconds, *(None if math.isnan(value) else int(value) for value in values))
            )
        return tuple(reversed(found))


def _index(frame: _Frame, path: str) -> int:
    paths: Sequence[str] = frame.paths
    if "\\" in path:
        paths = list(map(spelled, paths))
    return paths.index(path) if path in paths else -1


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    found = [each for each in samples if each.memory is not None and each.container.cgroup.path != "/"]
    if len(found) > MOST_CGROUPS:
        found.sort(key=_is_of_less_interest)  # stable: those of one kind stay as they were
        found = found[:MOST_CGROUPS]
    return found


def _is_of_less_interest(sample: Sample) -> bool:
    limit = sample.memory.limit_bytes if sample.memory else None
    return sample.container.owner.kind is not Kind.CONTAINER and (limit is None or limit == math.inf)


def _values(samples: list[Sample]) -> array[float]:
    values: list[float | None] = []
    for sample in samples:
        memory = sample.memory
        if memory is not None:
            stat = memory.stat
            values += (
                memory.usage_bytes,
                stat.anon_bytes,
                stat.file_bytes,
                stat.shmem_bytes,
                memory.kernel_usage_bytes,
                memory.swap_usage_bytes,
            )
    if None in values:
        return array("d", [math.nan if value is None else value for value in values])
    return array("d", values)  # type: ignore[arg-type]  # none of them is None
