"""The sampler: every cgroup's numbers, once a tick."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cgwatch.cgroup.controllers import CONTROLLERS, Controller, open_tree, wanted
from cgwatch.cgroup.core import CoreStats
from cgwatch.cgroup.files import Descriptors, Fault
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.errors import CgroupGoneError, KernelFileError
from cgwatch.model import Container, Description, Kind, Sample, Snapshot
from cgwatch.proc.namespaces import is_foreign
from cgwatch.sampling.detail import DetailReader
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.formulas import Formulas
from cgwatch.sampling.network import INIT, NetworkReader
from cgwatch.sampling.node import NodeReader
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.stopped import Stopped
from cgwatch.sampling.tolerance import KernelVersion

Clock = Callable[[], float]
Values = list[Any]
"""The stats objects of one cgroup, in the order of ``CONTROLLERS``."""


class Sampler:
    """Follows the cgroups of a node and reads them. Not thread-safe: one thread ticks."""

    def __init__(
        self,
        hierarchies: Hierarchies,
        *,
        proc_root: str,
        descriptors: Descriptors,
        plan: Plan,
        clock: Clock,
        monotonic: Clock,
        sys_root: str = "/sys",
        failed: Callable[[KernelFileError], None],
    ) -> None:
        """``failed`` is called for each file that could not be read or understood without a good reason.

        ``plan`` says how often ``sample`` is going to be called, and what it has to read.
        """
        self._hierarchies = hierarchies
        self._proc_root = proc_root
        self._descriptors = descriptors
        self._clock = clock
        self._monotonic = monotonic
        self._failed = failed
        self._settings_ticks = plan.ticks(plan.settings_seconds)
        self._controllers = wanted(plan.parts, hierarchies, sys_root)
        self._tree = open_tree(hierarchies, proc_root, descriptors, self._controllers)
        self._network = NetworkReader(proc_root)
        self._knows_pids = not is_foreign(proc_root)
        self._detail = DetailReader(
            proc_root=proc_root, plan=plan, monotonic=monotonic, knows_pids=self._knows_pids, failed=failed
        )
        self._followed: dict[str, Followed] = {}
        self._follows_all = True  # False: one of the tree went before it could be read
        self._turn = 0  # of the settings; ticks that are missed must not leave any out
        self._descriptions: Mapping[str, Description] = {}
        self._is_described = True
        self._stopped = Stopped()
        self._formulas = Formulas()
        self._node = NodeReader(
            proc_root=proc_root, sys_root=sys_root, plan=plan, monotonic=monotonic, failed=failed
        )
        self._kernel = kernel_version(self._node.machine.kernel_release or os.uname().release)

    @property
    def kernel(self) -> KernelVersion:
        """Major and minor version of the running kernel."""
        return self._kernel

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """What is read of each cgroup on this node."""
        return self._controllers

    @property
    def hierarchies(self) -> Hierarchies:
        """Where cgroups are looked for."""
        return self._hierarchies

    @property
    def followed(self) -> Iterable[Followed]:
        """The cgroups that are sampled, ordered by path."""
        return self._followed.values()

    def describe(self, descriptions: Mapping[str, Description]) -> None:
        """Take over what the runtimes said, by container id; the next snapshots carry it."""
        self._descriptions = descriptions
        self._is_described = False

    def sample(self, sequence: int) -> Snapshot:
        """Read everything once. A file that cannot be read costs its own numbers and nothing else."""
        time_seconds, start_seconds = self._clock(), self._monotonic()
        self._node.begin_tick()
        if not self._is_described:  # once a tick, however many containers a runtime tells of in between
            for followed in self._followed.values():
                self._bind(followed)
            self._is_described = True
        self._tree.begin()
        taken, all_alive = self._read_followed()
        faults: list[KernelFileError] = []
        if self._tree.follow(all_alive=all_alive, faults=faults) or not all_alive:
            self._follow_changes(taken)
        samples = self._make_samples(taken, faults)
        for fault in faults:
            self._failed(fault)
        stopped = self._stopped.update(self._descriptions, (sample.container for sample in samples))
        return Snapshot(
            sequence=sequence,
            time_seconds=time_seconds,
            monotonic_seconds=start_seconds,
            duration_seconds=self._monotonic() - start_seconds,
            samples=samples,
            layout=self._hierarchies.layout,
            machine=self._node.machine,
            memory=self._node.memory(),
            devices=self._node.device_paths(samples),
            disks=self._node.disks(),
            filesystems=self._node.filesystems(),
            topology=self._node.topology,
            dimms=self._node.dimms,
            pressure=self._node.pressure(),
            stopped=stopped,
            stopped_left_out=self._stopped.left_out,
            formulas=self._formulas.update(samples),
        )

    def look(self, path: str) -> list[tuple[Container, MemoryStats | None]]:
        """Return the memory of one cgroup, and of those above it, as it is between two ticks."""
        found = []
        while True:
            followed = self._followed.get(path)
            if followed is not None:
                with contextlib.suppress(CgroupGoneError):  # the next tick says so
                    found.append((followed.container, followed.look()))
            if path in ("/", ""):
                return found
            path = path.rpartition("/")[0] or "/"

    def close(self) -> None:
        """Close every file."""
        for followed in self._followed.values():
            followed.close()
        self._followed = {}
        self._tree.close()

    def _read_followed(self) -> tuple[dict[str, Values], bool]:
        """Read all known cgroups; tell whether each of them surely is the one it was.

        The settings of a few cgroups are read at each tick, so that every tick costs the same.
        """
        taken: dict[str, Values] = {}
        all_alive = self._follows_all
        self._turn += 1
        for place, (path, followed) in enumerate(list(self._followed.items()), start=self._turn):
            faults: list[Fault] = []
            settings = place % self._settings_ticks == 0
            if settings and followed.has_new_controllers():
                self._forget(path)
                all_alive = False  # it is found again, and all of its files are opened
                continue
            try:
                taken[path] = followed.read(faults, settings=settings)
            except CgroupGoneError:
                self._forget(path)
                all_alive = False
                continue
            all_alive = all_alive and followed.proves_life
            if faults:
                self._judge((fault, followed.why(fault, self._kernel)) for fault in faults)
        return taken, all_alive

    def _follow_changes(self, taken: dict[str, Values]) -> None:
        places = self._tree.places()
        self._follows_all = True
        for path, followed in list(self._followed.items()):
            if places.get(path) != followed.places:
                self._forget(path)
                taken.pop(path, None)
        for path in places.keys() - self._followed.keys():
            followed = Followed(self._hierarchies, path, places[path], self._controllers, self._descriptors)
            values = self._read_new(followed)
            if values is None:
                followed.close()
                self._follows_all = False
                continue
            self._bind(followed)
            self._followed[path] = followed
            taken[path] = values
        self._followed = dict(sorted(self._followed.items()))

    def _read_new(self, followed: Followed) -> Values | None:
        """Read a cgroup for the first time; ``None`` when it went meanwhile."""
        faults: list[Fault] = []
        try:
            values = followed.read(faults, settings=True)
        except CgroupGoneError:
            return None
        absences = list(followed.absences(self._kernel))
        if not followed.is_still_there():  # else its files are those of another cgroup of its path
            return None
        self._judge(absences)
        self._judge((fault, followed.why(fault, self._kernel)) for fault in faults)
        return values

    def _judge(self, faults: Iterable[tuple[Fault, str | None]]) -> None:
        for fault, why in faults:
            if why is None:
                self._failed(fault.error)

    def _bind(self, followed: Followed) -> None:
        followed.bind(self._descriptions.get(followed.container.owner.container_id or ""))

    def _forget(self, path: str) -> None:
        self._followed.pop(path).close()

    def _make_samples(self, taken: Mapping[str, Values], faults: list[KernelFileError]) -> tuple[Sample, ...]:
        containers = {path: followed.container for path, followed in self._followed.items()}
        cores: dict[str, CoreStats | None] = {path: values[_CORE] for path, values in taken.items()}
        counts, pids = _processes(self._followed, cores, knows_pids=self._knows_pids)
        # The node's own counters are init's, whether or not any process is left in the root cgroup itself.
        pids = {"/": INIT} | pids if "/" in containers else pids
        network = self._network.read(((containers[path], pid) for path, pid in pids.items()), faults)
        details = self._detail.read(self._followed, counts, pids, self._network.owners)
        return tuple(
            Sample(
                container,
                counts.get(path),
                network.get(container.cgroup),
                details.get(container.cgroup),
                *taken[path],
            )
            for path, container in containers.items()
        )


_CORE = [controller.name for controller in CONTROLLERS].index("core")


def kernel_version(release: str) -> KernelVersion:
    """Return major and minor of ``uname -r``; (0, 0) when it does not start with them."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _processes(
    followed: Mapping[str, Followed], cores: Mapping[str, CoreStats | None], *, knows_pids: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Count processes of each cgroup with all below it, and find one process of each that has its own.

    A container whose processes all live further down (systemd in a container, crun's ``container`` leaf) is
    spoken for by one of those. Without ``knows_pids`` the pids in cgroup files are not those in /proc,
    and only a runtime tells the right ones.
    """
    counts: dict[str, int] = {}
    pids: dict[str, int] = {}
    # Ordered by path, a cgroup comes before all below it: backwards, each is complete when it is reached.
    for path, here in reversed(list(followed.items())):
        core = cores.get(path)
        if core is None:
            continue
        if core.processes is not None:
            counts[path] = counts.get(path, 0) + core.processes
        pid = core.first_pid if knows_pids else None
        if pid is None and here.container.description is not None:
            # Outside our pid namespace; the runtime knows the host's number.
            pid = here.container.description.pid
        if pid is not None:
            pids[path] = pid
        above = followed.get(path.rpartition("/")[0] or "/")
        if above is None or above is here:
            continue
        # A hierarchy without this cgroup counts its processes in one further up.
        if path in counts and above.home is here.home:
            counts[above.path] = counts.get(above.path, 0) + counts[path]
        if above.container.owner.kind is Kind.CONTAINER and path in pids:
            pids.setdefault(above.path, pids[path])
    return counts, pids
