"""Reading one kernel file again and again, at the price of one ``pread``.

A descriptor kept open saves the path walk (three quarters of the cost of a small read) and is also the
only sure identity: after ``rmdir`` it answers ENODEV, even when a new cgroup of the same path is there.
Files past the descriptor budget are opened for each read.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from cgwatch.cgroup.formats import FormatError
from cgwatch.errors import CgroupGoneError, KernelFileError, MalformedFileError, from_os_error

_READ_SIZE = 4096
_READ_SIZE_LIMIT = 1 << 20  # no cgroup file comes near; a bound against a file that never ends

# Left to everything that is not a kept cgroup file: sockets of scrapes, the database, /proc reads.
_RESERVED_DESCRIPTORS = 256


class Descriptors:
    """The budget of descriptors that may stay open."""

    def __init__(self, budget: int) -> None:
        self.budget = max(budget, 0)
        self.kept = 0

    def take(self) -> bool:
        """Take one from the budget; False when it is used up."""
        if self.kept >= self.budget:
            return False
        self.kept += 1
        return True

    def give_back(self) -> None:
        """Return one to the budget."""
        self.kept -= 1


def descriptor_budget() -> int:
    """Raise the soft limit on open files to the hard one, and return how many cgroup files may stay open.

    1024 is a common soft limit and would be spent on 40 cgroups; raising it to the hard limit needs no
    privilege (getrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    # A tight limit is shared half and half rather than leaving nothing for the scrapes.
    return max(hard - _RESERVED_DESCRIPTORS, hard // 2)


ANY = "*"
"""As a ``File``'s controller: whichever v1 hierarchy has the cgroup."""


class File(Struct, frozen=True):
    """One row of a controller's table: a kernel file and how to read it."""

    name: str
    parse: Callable[[bytes], Any]
    controller: str = ""
    """Cgroup v1: the hierarchy that holds the file. Empty: the unified hierarchy."""
    since: tuple[int, int] = (0, 0)
    """The first kernel that has it."""
    on_root: bool = True
    """Whether the root cgroup has it."""
    needs: str = ""
    """What else it depends on: a kernel option, a boot parameter, an I/O scheduler."""
    instead_of: str = ""
    """Read only where this other file of the same table is missing."""
    many_records: bool = False
    """The kernel returns about a page for each read(2), so it takes several to see the end."""


class KernelFile:
    """One file of one cgroup. ``read`` is the hot path of the whole agent."""

    __slots__ = ("_descriptors", "_fd", "_many_records", "_parse", "_raw", "_size", "_value", "path")

    def __init__(self, path: str, file: File, descriptors: Descriptors) -> None:
        """Open ``path``; raises the ``KernelFileError`` that says what the kernel answered."""
        self.path = path
        self._parse = file.parse
        self._many_records = file.many_records
        self._size = _READ_SIZE
        self._raw: bytes | None = None
        self._value: Any = None
        self._descriptors = descriptors
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(path, error) from error
        if not descriptors.take():
            os.close(self._fd)
            self._fd = -1

    @property
    def is_kept(self) -> bool:
        """Whether the descriptor stays open between reads."""
        return self._fd >= 0

    def read(self, faults: list[KernelFileError]) -> Any:  # noqa: ANN401 - what the file's own parser returns
        """Return the parsed file, or ``None`` with the reason appended to ``faults``.

        An unchanged text returns the very same object as the last time. Raises ``CgroupGoneError`` when the
        cgroup was removed: then nothing else of it is worth reading.
        """
        try:
            if self._fd >= 0 and not self._many_records:
                raw = os.pread(self._fd, self._size, 0)
                if len(raw) == self._size:
                    raw = self._read_longer()
            else:
                raw = self._read_to_end()
        except OSError as error:
            fault = from_os_error(self.path, error)
            if isinstance(fault, CgroupGoneError):
                raise fault from error
            faults.append(fault)
            return None
        if raw == self._raw:
            return self._value
        try:
            value = self._parse(raw)
        except FormatError as error:
            faults.append(MalformedFileError(self.path, str(error)))
            return None
        self._raw = raw
        self._value = value
        return value

    def _read_longer(self) -> bytes:
        """A single-record file comes whole in one read that is large enough; remember the size."""
        while True:
            self._size *= 4
            raw = os.pread(self._fd, self._size, 0)
            if len(raw) < self._size or self._size >= _READ_SIZE_LIMIT:
                return raw

    def _read_to_end(self) -> bytes:
        fd = self._fd if self._fd >= 0 else os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunks = []
            offset = 0
            while chunk := os.pread(fd, 4 * _READ_SIZE, offset):
                chunks.append(chunk)
                offset += len(chunk)
                if offset >= _READ_SIZE_LIMIT:
                    break
            return b"".join(chunks)
        finally:
            if fd != self._fd:
                os.close(fd)

    def close(self) -> None:
        """Close the kept descriptor, if any."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._descriptors.give_back()


class Reader:
    """All files of one controller in one cgroup, and the function that makes one stats object of them.

    ``read`` returns the very same object as the last time when no file changed: what was derived from it
    (a rendered line, a rate) still holds.
    """

    __slots__ = ("_build", "_files", "_slots", "_stats", "_values", "absent")

    def __init__(
        self,
        rows: tuple[File, ...],
        build: Callable[..., Any],
        locate: Callable[[File], str | None],
        descriptors: Descriptors,
    ) -> None:
        """Open every row's file at the path that ``locate`` gives (``None``: the hierarchy is not there).

        ``absent`` holds the files that could not be opened and why; deciding whether that is normal is left
        to the layer above.
        """
        self._build = build
        self._values: list[Any] = [None] * len(rows)
        self._files: list[KernelFile] = []
        self._slots: list[int] = []
        self._stats: Any = None
        self.absent: list[tuple[File, KernelFileError]] = []
        opened = set()
        for slot, row in enumerate(rows):
            path = None if row.instead_of in opened else locate(row)
            if path is None:
                continue
            try:
                self._files.append(KernelFile(path, row, descriptors))
            except KernelFileError as fault:
                self.absent.append((row, fault))
            else:
                self._slots.append(slot)
                opened.add(row.name)

    def __len__(self) -> int:
        return len(self._files)

    @property
    def paths(self) -> list[str]:
        """Paths of the files that are read."""
        return [file.path for file in self._files]

    @property
    def is_kept(self) -> bool:
        """Whether every descriptor stays open between reads."""
        return all(file.is_kept for file in self._files)

    def read(self, faults: list[KernelFileError]) -> Any:  # noqa: ANN401 - what ``build`` returns
        """Read every file and return the stats object; raises ``CgroupGoneError``."""
        if not self._files:
            return None
        changed = self._stats is None
        values = self._values
        for slot, file in zip(self._slots, self._files, strict=True):
            value = file.read(faults)
            if value is not values[slot]:
                values[slot] = value
                changed = True
        if changed:
            self._stats = self._build(*values)
        return self._stats

    def close(self) -> None:
        """Close every kept descriptor."""
        for file in self._files:
            file.close()
