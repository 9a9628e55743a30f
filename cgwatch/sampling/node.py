"""The node's own numbers: the machine, its memory, the names of its disks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cgwatch.errors import KernelFileError
from cgwatch.model import Sample
from cgwatch.proc.diskstats import DeviceNames
from cgwatch.proc.machine import Machine, read_machine
from cgwatch.proc.meminfo import Meminfo, read_meminfo
from cgwatch.sampling.plan import Plan


class NodeReader:
    """Reads what is the node's and no cgroup's. A file that cannot be read costs its own numbers alone."""

    def __init__(
        self,
        *,
        proc_root: str,
        sys_root: str,
        plan: Plan,
        monotonic: Callable[[], float],
        failed: Callable[[KernelFileError], None],
    ) -> None:
        self._proc_root = proc_root
        self._sys_root = sys_root
        self._plan = plan
        self._monotonic = monotonic
        self._failed = failed
        self._devices = DeviceNames(proc_root)
        self._read_machine()

    def begin_tick(self) -> None:
        """Read what is due."""
        self._devices.begin_tick()
        if self._monotonic() - self._machine_seconds >= self._plan.machine_seconds:
            self._read_machine()

    def _read_machine(self) -> None:
        self.machine: Machine = read_machine(self._proc_root, sys_root=self._sys_root, failed=self._failed)
        self._machine_seconds = self._monotonic()

    def memory(self) -> Meminfo | None:
        """Return the node's memory."""
        try:
            return read_meminfo(self._proc_root)
        except KernelFileError as fault:
            self._failed(fault)
            return None

    def device_paths(self, samples: Iterable[Sample]) -> dict[tuple[int, int], str]:
        """Return the paths of the block devices in the samples."""
        paths: dict[tuple[int, int], str] = {}
        ios = (sample.io for sample in samples if sample.io)
        devices = {(device.major, device.minor) for io in ios for device in io.devices or ()}
        for device in devices:
            try:
                path = self._devices.path(*device)
            except KernelFileError as fault:
                self._failed(fault)
                continue
            if path is not None:
                paths[device] = path
        return paths
