"""Reading one kernel file again and again, at the price of one ``pread``.

A descriptor kept open saves the path walk (three quarters of the cost of a small read) and is also the
only sure identity: after ``rmdir`` it answers ENODEV, even when a new cgroup of the same path is there.
Each costs the kernel a page of buffer, so they are for what moves. Settings, which change only when someone
writes them, are read now and then, and opened for it; so are all files past the descriptor budget.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from cgwatch.cgroup.formats import FormatError
from cgwatch.errors import (
    CgroupGoneError,
    FileMissingError,
    KernelFileError,
    MalformedFileError,
    from_os_error,
)

pread = os.pread  # looked up once: this is the hot path

_READ_SIZE = 4096
_LONGEST_RECORD = 256  # in the files of many records: a line with a pid, a line of /proc/cgroups
_READ_SIZE_LIMIT = 1 << 25  # cgroup.procs of as many processes as Linux can have: 2^22, of 8 bytes each

_SHARED_DIRECTORIES = 32  # more than one cgroup has

# Left to everything that is not a kept cgroup file: sockets of scrapes, the database, /proc reads.
_RESERVED_DESCRIPTORS = 256


class Descriptors:
    """The budget of descriptors that may stay open.

    ``interval_seconds``: how often their files are going to be read at most.
    """

    def __init__(self, budget: int, interval_seconds: float = math.inf) -> None:
        self.budget = max(budget, 0)
        self.interval_seconds = interval_seconds
        self.kept = 0
        self._directories: dict[str, str] = {}
        self._spare: dict[int, KernelFile] = {}

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it."""
        return self.kept >= self.budget

    def take(self, file: KernelFile) -> bool:
        """Take one from the budget for a file; False when it is used up.

        A pulse takes the descriptor of another kind of file then, the one that was opened last: it is what
        tells that a cgroup is idle, and that it is there at all.
        """
        if self.is_used_up:
            if not file.file.pulse or not self._spare:
                return False
            self._spare[next(reversed(self._spare))].close()
        self.kept += 1
        if not file.file.pulse:
            self._spare[id(file)] = file
        return True

    def hold(self, file: KernelFile) -> None:
        """Never take away what this file has."""
        self._spare.pop(id(file), None)

    def give_back(self, file: KernelFile) -> None:
        """Return one to the budget."""
        self._spare.pop(id(file), None)
        self.kept -= 1

    def shared(self, directory: str) -> str:
        """Return the same object for the directory of the files that are opened one after the other.

        Not ``sys.intern``: up to Python 3.12.6 (CPython issue 113993) that keeps a string for ever.
        """
        if len(self._directories) >= _SHARED_DIRECTORIES:
            self._directories.clear()
        return self._directories.setdefault(directory, directory)


def descriptor_budget() -> int:
    """Raise the soft limit on open files to the hard one, and return how many cgroup files may stay open.

    1024 is a common soft limit and would be spent on 40 cgroups; raising it to the hard limit needs no
    privilege (getrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            hard = soft  # fs.nr_open was lowered below the hard limit since it was set
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
    setting: bool = False
    """It changes only when someone writes it, or hardly ever and may be told late."""
    needs: str = ""
    """What else it depends on: a kernel option, a boot parameter, an I/O scheduler."""
    instead_of: str = ""
    """Read only where this other file of the same table is missing."""
    many_records: bool = False
    """The kernel returns about a page for each read(2), so it takes several to see the end."""
    pulse: bool = False
    """It moves when anything happens in the cgroup that others of its files tell of: they are not read while
    none of its pulses beats. What moves without one, such as the age of pages, is told late."""
    stale_seconds: float = 0.0
    """A descriptor that was read less than this ago shows the same once more, whatever has changed."""


def _read_rest(fd: int, raw: bytes) -> bytes:
    """Read on until the end, or a length that no file of the kernel has.

    A file that is one record for the kernel and larger than the buffer comes in consecutive parts of one and
    the same text; a file of many records may change between two parts, as it may for every other reader.
    """
    parts = [raw]
    length = len(raw)
    while parts[-1] and length < _READ_SIZE_LIMIT:
        parts.append(pread(fd, 4 * _READ_SIZE, length))
        length += len(parts[-1])
    return b"".join(parts)


class Fault(NamedTuple):
    """A file that the kernel did not give, or not as documented, and what it answered."""

    file: File
    error: KernelFileError


class KernelFile:
    """One file of one cgroup. ``read`` is the hot path of the whole agent."""

    # There are tens of thousands of them: what they share is not held by each.
    __slots__ = ("_descriptors", "_directory", "_fd", "_name", "_raw", "_value", "file")

    def __init__(self, path: str, file: File, descriptors: Descriptors) -> None:
        """Open ``path``; raises the ``KernelFileError`` that says what the kernel answered."""
        directory, _, name = path.rpartition("/")
        self._directory = descriptors.shared(directory)
        self._name = file.name if name == file.name else name
        self.file = file
        self._raw: bytes | None = None
        self._value: Any = None
        self._descriptors = descriptors
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(path, error) from error
        if not self.is_wanted or not descriptors.take(self):
            os.close(self._fd)
            self._fd = -1

    @property
    def path(self) -> str:
        """Where the file is."""
        return f"{self._directory}/{self._name}"

    @property
    def is_kept(self) -> bool:
        """Whether the descriptor stays open between reads."""
        return self._fd >= 0

    def keep(self) -> None:
        """Open it to stay, if it moves and was closed for want of descriptors, and there are some again."""
        if self._fd >= 0 or not self.is_wanted or self._descriptors.is_used_up:
            return
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # the next read says why
        if not self._descriptors.take(self):
            os.close(self._fd)
            self._fd = -1

    @property
    def is_wanted(self) -> bool:
        """Whether it is to stay open if there are descriptors enough."""
        return not self.file.setting and self.file.stale_seconds < self._descriptors.interval_seconds

    def hold(self) -> None:
        """Keep the descriptor, if it is kept, whatever else needs one."""
        self._descriptors.hold(self)

    @property
    def value(self) -> Any:  # noqa: ANN401 - what the file's own parser returns
        """What the last read returned; it is the same object for as long as the text is the same."""
        return self._value

    def read(self, faults: list[Fault]) -> Any:  # noqa: ANN401 - what the file's own parser returns
        """Return the parsed file, or ``None`` with the reason appended to ``faults``.

        An unchanged text returns the very same object as the last time. Raises ``CgroupGoneError`` when the
        cgroup (or its controller) was removed: then nothing else of it is worth reading.
        """
        try:
            raw = self._read_from(self._fd) if self._fd >= 0 else self._read_closed()
        except OSError as error:
            fault = from_os_error(self.path, error)
            # A file that was there and is missing went with its cgroup: what pread(2) calls ENODEV.
            if isinstance(fault, CgroupGoneError | FileMissingError):
                raise CgroupGoneError(self.path, fault.problem, fault.errno) from error
            faults.append(Fault(self.file, fault))
            return None
        if raw == self._raw:
            return self._value
        try:
            value = self.file.parse(raw)
        except FormatError as error:
            faults.append(Fault(self.file, MalformedFileError(self.path, str(error))))
            return None
        self._raw = raw
        self._value = value
        return value

    def _read_from(self, fd: int) -> bytes:
        raw = pread(fd, _READ_SIZE, 0)
        # A record that did not fit any more would have left less room than the longest record takes.
        is_whole = (
            len(raw) <= _READ_SIZE - _LONGEST_RECORD if self.file.many_records else len(raw) < _READ_SIZE
        )
        return raw if is_whole else _read_rest(fd, raw)

    def _read_closed(self) -> bytes:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._read_from(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the kept descriptor, if any."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._descriptors.give_back(self)


class Reader:
    """All files of one controller in one cgroup, and the function that makes one stats object of them.

    ``read`` returns the very same object as the last time when no file changed: what was derived from it
    (a rendered line, a rate) still holds.
    """

    __slots__ = ("_build", "_moving", "_settings", "_slots", "_stats", "_values", "absent")

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
        self._stats: Any = None
        absent: list[Fault] = []
        opened: dict[str, tuple[int, KernelFile]] = {}
        for slot, row in enumerate(rows):
            path = None if row.instead_of in opened else locate(row)
            if path is None:
                continue
            try:
                file = KernelFile(path, row, descriptors)
            except KernelFileError as error:
                # And no traceback: each holds on to every frame, this one too, for the cgroup's life and
                # beyond, until the cycle is collected.
                error.__cause__ = error.__context__ = None
                absent.append(Fault(row, error.with_traceback(None)))
            else:
                opened[row.name] = slot, file
        # Those that move come first, so that a read without settings ends early.
        ordered = sorted(opened.values(), key=lambda each: each[1].file.setting)
        self._slots = tuple(slot for slot, _ in ordered)
        self._moving = tuple(file for _, file in ordered if not file.file.setting)
        self._settings = tuple(file for _, file in ordered if file.file.setting)
        self.absent = tuple(absent)

    @property
    def files(self) -> Iterator[KernelFile]:
        """The files that are read."""
        return itertools.chain(self._moving, self._settings)

    def read(self, faults: list[Fault], *, settings: bool = True) -> Any:  # noqa: ANN401 - what ``build`` returns
        """Read the files and return the stats object, ``None`` without any file; raises ``CgroupGoneError``.

        Without ``settings`` those are as they were when they were last read.
        """
        changed = False
        values = self._values
        files = self._moving + self._settings if settings else self._moving
        for slot, file in zip(self._slots, files, strict=False):
            value = file.read(faults)
            if value is not values[slot]:
                values[slot] = value
                changed = True
        if changed:
            self._stats = self._build(*values)
        return self._stats

    def close(self) -> None:
        """Close every kept descriptor."""
        for file in self.files:
            file.close()
