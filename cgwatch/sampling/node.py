"""The node's own numbers: the machine, its memory and pressure, its disks and file systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from cgwatch.cgroup import formats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.errors import FileMissingError, KernelFileError, NotSupportedError
from cgwatch.model import Sample
from cgwatch.proc.diskstats import DeviceNames, Disk, DiskReader
from cgwatch.proc.edac import Dimms, read_dimms
from cgwatch.proc.filesystems import Filesystem
from cgwatch.proc.machine import Machine, read_machine
from cgwatch.proc.meminfo import Meminfo, read_meminfo
from cgwatch.proc.reading import parsed, read_bytes
from cgwatch.proc.topology import Node, read_topology
from cgwatch.sampling.filesystems import FilesystemReader
from cgwatch.sampling.plan import Plan

T = TypeVar("T")

_PRESSURES = ("cpu", "memory", "io", "irq")


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
        self._disks = DiskReader(proc_root, sys_root) if "disks" in plan.parts else None
        self._filesystems = (
            FilesystemReader(proc_root, monotonic=monotonic, failed=failed)
            if "filesystems" in plan.parts
            else None
        )
        self._read_machine()

    def begin_tick(self) -> None:
        """Read what is due."""
        self._devices.begin_tick()
        if self._filesystems:
            self._filesystems.begin_tick()
        if self._monotonic() - self._machine_seconds >= self._plan.machine_seconds:
            self._read_machine()

    def _read_machine(self) -> None:
        self.machine: Machine = read_machine(self._proc_root, sys_root=self._sys_root, failed=self._failed)
        self.topology: tuple[Node, ...] = (
            read_topology(self._sys_root, failed=self._failed) if "topology" in self._plan.parts else ()
        )
        self.dimms: Mapping[str, Dimms] = self._attempt(lambda: read_dimms(self._sys_root)) or {}
        self._machine_seconds = self._monotonic()

    def memory(self) -> Meminfo | None:
        """Return the node's memory."""
        return self._attempt(lambda: read_meminfo(self._proc_root))

    def disks(self) -> tuple[Disk, ...] | None:
        """Return what the block devices did; ``None`` if nobody wants it."""
        return self._attempt(self._disks.read) if self._disks else None

    def filesystems(self) -> tuple[Filesystem, ...]:
        """Return what is known of the node's file systems."""
        return self._filesystems.latest() if self._filesystems else ()

    def pressure(self) -> PressureStats | None:
        """Return the pressure of the whole node; ``None`` if nobody wants it."""
        if "machine_pressure" not in self._plan.parts:
            return None
        return PressureStats(*map(self._pressure, _PRESSURES))

    def _pressure(self, resource: str) -> formats.Pressure | None:
        path = f"{self._proc_root}/pressure/{resource}"
        try:
            return parsed(path, read_bytes(path), formats.pressure)
        except (FileMissingError, NotSupportedError):
            return None  # an older kernel, or psi=0
        except KernelFileError as fault:
            self._failed(fault)
            return None

    def _attempt(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except KernelFileError as fault:
            self._failed(fault)
            return None

    def device_paths(self, samples: Iterable[Sample]) -> dict[tuple[int, int], str]:
        """Return the paths of the block devices in the samples."""
        paths: dict[tuple[int, int], str] = {}
        ios = [sample.io for sample in samples if sample.io]
        devices = {(device.major, device.minor) for io in ios for device in io.devices or ()}
        devices |= {(limit.major, limit.minor) for io in ios for limit in io.limits}
        for device in devices:
            try:
                path = self._devices.path(*device)
            except KernelFileError as fault:
                self._failed(fault)
                continue
            if path is not None:
                paths[device] = path
        return paths
