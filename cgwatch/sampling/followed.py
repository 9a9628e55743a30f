"""One cgroup that is sampled: who it is, and its open files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from operator import is_
from typing import Any

from msgspec import structs

from cgwatch.cgroup.controllers import CONTROLLERS, Controller, open_reader
from cgwatch.cgroup.files import Descriptors, Fault, KernelFile, Reader
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.cgroup.memory import MemoryStats, keeps_no_peak
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import CgroupGoneError
from cgwatch.model import Cgroup, Container, Description
from cgwatch.sampling.peak import OwnPeak
from cgwatch.sampling.tolerance import Circumstances, KernelVersion, reason

_SETTINGS_READS = 2
_MEMORY = [controller.name for controller in CONTROLLERS].index("memory")


class Followed:
    """One cgroup of one identity. Another inode in any hierarchy is another ``Followed``."""

    __slots__ = (
        "_controllers",
        "_last",
        "_own_peak",
        "_pulse",
        "_readers",
        "_settings_reads",
        "container",
        "home",
        "path",
        "places",
        "proves_life",
    )

    def __init__(
        self,
        hierarchies: Hierarchies,
        path: str,
        places: Mapping[Hierarchy, int],
        controllers: tuple[Controller, ...],
        descriptors: Descriptors,
    ) -> None:
        self.path = path
        self.places = places
        self.home, inode = next(iter(places.items()))
        """The hierarchy that tells of its processes."""
        self.container = Container(Cgroup(path, inode), recognise(path), _created(self.home.locate(path)))
        self._readers: tuple[Reader, ...] = tuple(
            open_reader(controller, hierarchies, path, places, descriptors) for controller in controllers
        )
        self._controllers = controllers
        self._own_peak = OwnPeak() if keeps_no_peak(self._readers[_MEMORY].absent) else None
        self._settings_reads = 0
        self.proves_life = False
        """Whether a descriptor stays open in each of its places: then an answer is proof of life."""
        self._hold_proofs()
        self._last: list[Any] = []
        self._pulse: tuple[tuple[KernelFile, Any], ...] = ()

    def _hold_proofs(self) -> None:
        kept = {self._directory(file): file for file in self.files if file.is_kept}
        kept |= {self._directory(file): file for file in self.files if file.is_kept and file.file.pulse}
        for file in kept.values():
            file.hold()
        # The root cannot go (and has no file at all in some hierarchies).
        self.proves_life = self.path == "/" or all(
            hierarchy.locate(self.path) in kept for hierarchy in self.places
        )

    @property
    def files(self) -> Iterator[KernelFile]:
        """The files that are read, of every controller."""
        return (file for reader in self._readers for file in reader.files)

    @property
    def is_kept(self) -> bool:
        """Whether the budget of descriptors was enough for each file that moves."""
        return all(file.is_kept or not file.is_wanted for file in self.files)

    def read(self, faults: list[Fault], *, settings: bool) -> list[Any]:
        """Return the stats of each controller, in their order; raises ``CgroupGoneError``.

        ``settings``: read those too. They are read anyway for the first few times, since a runtime writes
        them after it has made the cgroup, and after its API said something new, such as "update".

        While nothing at all happens in a cgroup, only the files are read that would tell of it; and all of
        them whenever the settings are. What the kernel does to it meanwhile (pages age) is told that late.
        """
        if self._settings_reads < _SETTINGS_READS:
            self._settings_reads += 1
            settings = True
        if settings and not self.is_kept:
            for file in self.files:
                file.keep()
            # What was opened by its path just now may be another cgroup's, of the same path.
            if not self.is_still_there():
                raise CgroupGoneError(self.home.locate(self.path), "removed, and perhaps made again")
            self._hold_proofs()
        if self._pulse and not settings and self._is_still():
            return self._last
        before = self._last
        values = self._last = [reader.read(faults, settings=settings) for reader in self._readers]
        if self._own_peak:
            values[_MEMORY] = self._own_peak.complete(values[_MEMORY])
        # Only who was idle is asked again whether it is: for all others that would be more to read.
        is_idle = len(before) == len(values) and all(map(is_, before, values)) and not faults
        self._pulse = self._beats() if is_idle else ()
        return values

    def _beats(self) -> tuple[tuple[KernelFile, Any], ...]:
        """Return what to look at while it is idle, as it is now; empty: that would not be enough."""
        kept = [file for file in self.files if file.is_kept]
        pulse = [file for file in self.files if file.file.pulse]
        if not pulse or not all(file.is_kept for file in pulse):
            return ()
        beating = {self._directory(file) for file in pulse}
        others = {self._directory(file): file for file in kept if self._directory(file) not in beating}
        if not all(hierarchy.locate(self.path) in beating | others.keys() for hierarchy in self.places):
            return ()
        # One of each hierarchy, as a proof of life.
        return tuple((file, file.value) for file in (*pulse, *others.values()))

    def _is_still(self) -> bool:
        faults: list[Fault] = []  # of a file that is read again at once
        return all(file.read(faults) is value for file, value in self._pulse) and not faults

    @staticmethod
    def _directory(file: KernelFile) -> str:
        return file.path.rpartition("/")[0]

    def look(self) -> MemoryStats | None:
        """Return its memory as it is now, between two ticks; raises ``CgroupGoneError``."""
        self._pulse = ()  # what is read here is no news any more at the next tick
        memory: MemoryStats | None = self._readers[_MEMORY].read([], settings=False)
        return memory

    def bind(self, description: Description | None) -> None:
        """Take over what a runtime said of this container."""
        if description is not self.container.description:
            self._settings_reads = 0
            self.container = structs.replace(self.container, description=description)

    def absences(self, kernel: KernelVersion) -> Iterator[tuple[Fault, str | None]]:
        """Every file that could not be opened, and why it may be missing; ``None``: it is a failure."""
        for controller, reader in zip(self._controllers, self._readers, strict=True):
            enabled = controller.mark not in {fault.file.name for fault in reader.absent}
            for fault in reader.absent:
                yield fault, self.why(fault, kernel, controller_enabled=enabled)

    def why(self, fault: Fault, kernel: KernelVersion, *, controller_enabled: bool = True) -> str | None:
        """Return why a file may be missing here; ``None``: it is a failure."""
        here = Circumstances(kernel, is_root=self.path == "/", controller_enabled=controller_enabled)
        return reason(fault.file, fault.error, here)

    def has_new_controllers(self) -> bool:
        """Whether a controller was enabled for it since its files were opened."""
        marks = {controller.mark for controller in self._controllers}
        missing = (fault for reader in self._readers for fault in reader.absent if fault.file.name in marks)
        return any(os.path.exists(fault.error.path) for fault in missing)

    def is_still_there(self) -> bool:
        """Whether its directories are: it may go, and another of its path come, while it is opened."""
        return all(_inode(hierarchy.locate(self.path)) == inode for hierarchy, inode in self.places.items())

    def close(self) -> None:
        """Close its files."""
        for reader in self._readers:
            reader.close()


def _inode(directory: str) -> int | None:
    try:
        return os.stat(directory).st_ino
    except OSError:
        return None


def _created(directory: str) -> float | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None  # gone again: the readers of its files say so
    return min(status.st_mtime, status.st_ctime)
