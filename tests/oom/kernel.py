"""A kernel to test the ledger on: cgroups with counters, kills, and a log. It knows the truth."""

from __future__ import annotations

from msgspec import Struct

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Kind
from cgwatch.oom.kill import Holder, Victim
from cgwatch.oom.observation import CgroupCounters, ContainerDied, KernelKill, Reading
from cgwatch.oom.state import depth, lineage

ID = {letter: letter * 64 for letter in "abcdef"}


class Cgroup(Struct):
    """Counters as the kernel keeps them; they die with the cgroup."""

    path: str
    inode: int
    own: int = 0
    within: int = 0
    oom: int = 0
    group_kills: int = 0


class Kernel:
    """``flat``: cgroup v1, where no counter counts what is below."""

    def __init__(self, *, flat: bool = False) -> None:
        self.flat = flat
        self.seconds = 1000.0
        self.node = 0
        self.cgroups = {"/": Cgroup("/", 1)}
        self.log: list[KernelKill] = []
        self.killed_by_holder: dict[str, int] = {}
        self._inodes = 1
        self._sequence = 0
        self._pids = 100

    def pass_time(self, seconds: float = 1.0) -> None:
        self.seconds += seconds

    def make(self, path: str) -> str:
        for above in reversed(lineage(path)):
            if above not in self.cgroups:
                self._inodes += 1
                self.cgroups[above] = Cgroup(above, self._inodes)
        return path

    def remove(self, path: str) -> None:
        assert not any(other.startswith(path + "/") for other in self.cgroups)
        del self.cgroups[path]

    def kill(
        self,
        path: str,
        *,
        limit: str | None = None,
        quiet: bool = False,
        group: str | None = None,
        is_global: bool = False,
    ) -> KernelKill:
        """Kill a process in a cgroup; ``quiet``: the log's rate limit holds back all but one line."""
        limit = path if limit is None else limit
        self.node += 1
        if not is_global:
            self.cgroups[limit].oom += 1
        for above in lineage(path):
            self.cgroups[above].within += 1
        self.cgroups[path].own += 1
        holder = holder_of(path).path
        assert holder is not None
        self.killed_by_holder[holder] = self.killed_by_holder.get(holder, 0) + 1
        self._sequence += 1
        self._pids += 1
        self.seconds += 0.001
        line = KernelKill(
            self._sequence,
            self.seconds,
            Victim(self._pids, "hog"),
            path=None if quiet or group else path,
            limit_path=None if quiet or is_global else limit,
            is_global=is_global,
            group_path=group,
        )
        self.log.append(line)
        return line

    def counters(self, path: str) -> CgroupCounters:
        cgroup = self.cgroups[path]
        holder = holder_of(path, innermost=False)
        return CgroupCounters(
            Holder(path, cgroup.inode, holder.owner, name=holder.name),
            own=None if path == "/" else cgroup.own,
            within=None if path == "/" or self.flat else cgroup.within,
            oom=None if path == "/" or self.flat else cgroup.oom,
            group_kills=None if path == "/" or self.flat else cgroup.group_kills,
        )

    def reading(self, *paths: str, complete: bool = False, node: bool = True) -> Reading:
        """Read some cgroups, or all of them, and then the node's counter."""
        self.pass_time(0.001)
        chosen = sorted(self.cgroups) if complete else sorted(set(paths) & set(self.cgroups))
        counters = tuple(self.counters(path) for path in chosen)
        return Reading(self.seconds, self.seconds, counters, self.node if node else None, complete)

    def died(self, path: str, *, oom: bool = True, exit_code: int | None = 137) -> ContainerDied:
        owner = recognise(path)
        assert owner.container_id is not None
        return ContainerDied(
            owner.container_id,
            self.seconds,
            Holder(path, None, owner, name="name-" + owner.container_id[:1]),
            oom=oom,
            exit_code=exit_code,
        )


def holder_of(path: str, *, innermost: bool = True) -> Holder:
    """Say whom a kill at a path counts for."""
    for above in sorted(lineage(path), key=depth, reverse=True) if innermost else ():
        owner = recognise(above)
        if owner.kind is Kind.CONTAINER:
            return Holder(above, None, owner)
    return Holder(path, None, recognise(path))
