"""The kernel as the enforcer meets it: surveys, plans, the hand that writes, marks on cgroups."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.knob import V2, Value
from cgwatch.cgroup.limit_files import holder, inode_of, write_step
from cgwatch.change import Key, Plan, Request, Step, Target, Tree
from cgwatch.errors import KernelFileError
from cgwatch.limits import effective
from cgwatch.limits.baseline import read_baseline, write_baseline
from cgwatch.limits.hand import Hand
from cgwatch.limits.survey import read_tree
from cgwatch.proc.membership import read_membership
from cgwatch.proc.reading import read_bytes


class RealGround:
    """An ``enforce.Ground`` of this machine. Not thread-safe."""

    def __init__(
        self,
        hierarchies: Hierarchies,
        planner: Callable[[Request, Tree, bool], Plan],
        *,
        proc_root: str,
        sys_root: str,
        hand: Hand,
    ) -> None:
        self._hierarchies = hierarchies
        self._planner = planner
        self._proc_root = proc_root
        self._sys_root = sys_root
        self._hand = hand
        self.boot_id = read_bytes(f"{proc_root}/sys/kernel/random/boot_id").decode("ascii").strip()
        self.own_paths = own_paths()

    def identify(self, path: str) -> int:
        """Return the inode of a cgroup. Raises ``FileMissingError``."""
        return inode_of(self._hierarchies, path)

    def survey(self, target: Target) -> Tree:
        """Read the target and what is around it. Raises ``FileMissingError`` when it is gone."""
        return read_tree(self._hierarchies, target.path, proc_root=self._proc_root, sys_root=self._sys_root)

    def plan(self, request: Request, tree: Tree, *, restores: bool) -> Plan:
        """Say what has to be done; ``restores``: to bring back what was there before."""
        return self._planner(request, tree, restores)

    def write(self, step: Step) -> None:
        """Do one step within its deadline. Raises a ``KernelFileError``."""
        write_step(self._hierarchies, step, self._hand.write)

    def effective(self, tree: Tree, path: str, key: Key) -> tuple[Value | None, str | None]:
        """Return what really bounds a cgroup, and whose limit that is."""
        found = effective.effective(tree, path, key)
        return found.value, found.path

    def is_frozen(self, path: str) -> bool:
        """Whether every process of a cgroup stands. Raises a ``KernelFileError``."""
        hierarchy = holder(self._hierarchies, "freezer")
        if hierarchy is None:
            return True
        directory = hierarchy.locate(path)
        if hierarchy.version == V2:
            return b"frozen 1" in read_bytes(f"{directory}/cgroup.events")
        return read_bytes(f"{directory}/freezer.state").strip() == b"FROZEN"

    def baseline(self, target: Target) -> Mapping[Key, Value]:
        """Return what is written on the cgroup itself."""
        directory = self._directory(target)
        return read_baseline(directory) if directory else {}

    def keep_baseline(self, target: Target, values: Mapping[Key, Value]) -> None:
        """Write it there, beside what is there already, if that is possible."""
        directory = self._directory(target)
        if directory:
            write_baseline(directory, {**values, **read_baseline(directory)})

    def forget_baseline(self, target: Target, keys: Iterable[Key]) -> None:
        """Take these away from what is there."""
        directory = self._directory(target)
        if directory and (there := read_baseline(directory)):
            left = {key: value for key, value in there.items() if key not in set(keys)}
            if left != there:
                write_baseline(directory, left)

    def end(self) -> None:
        """Let go of the hand that writes."""
        self._hand.end()

    def _directory(self, target: Target) -> str | None:
        """The directory whose inode the target's is: it dies with the cgroup."""
        unified = self._hierarchies.unified
        for hierarchy in (*self._hierarchies.v1, *((unified,) if unified else ())):
            directory: str = hierarchy.locate(target.path)
            try:
                if os.stat(directory).st_ino == target.inode:
                    return directory
            except OSError:
                continue
        return None


def own_paths() -> tuple[str, ...]:
    """Return the cgroups that this process runs in; none where the kernel does not say."""
    try:
        return tuple(sorted(set(read_membership("/proc", os.getpid()).values())))
    except KernelFileError:
        return ()
