"""Reading and writing the limits of one cgroup: the only place that writes a cgroup's file.

A write is opened, done once and closed. Nothing is created or truncated; what the kernel answers becomes an
error of ``cgwatch.errors`` that names the file, the text, and what to do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from msgspec import Struct

from cgwatch.cgroup.controllers import CONTROLLERS
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.cgroup.knob import V2, Place, Value
from cgwatch.cgroup.knobs import KNOBS, knob_of
from cgwatch.cgroup.limit_text import device_keys, is_limit_file, parse_file, settled
from cgwatch.cgroup.refusals import refused
from cgwatch.errors import (
    FileMissingError,
    KernelFileError,
    MalformedFileError,
    from_os_error,
)

CONTROLLERS_OF_LIMITS = tuple(dict.fromkeys(knob.controller for knob in KNOBS))
"""By v2's names, and ``freezer``, which v2 has no controller for."""

_V1_NAMES = {"io": "blkio"}
_LONGEST_FILE = 1 << 16  # io.max of more devices than a machine has


class Writing(Protocol):
    """What ``write_step`` needs of a ``change.Step``."""

    @property
    def path(self) -> str:
        """Of the cgroup."""

    @property
    def controller(self) -> str:
        """By v2's name; empty: the unified hierarchy's core."""

    @property
    def file(self) -> str:
        """Its name."""

    @property
    def text(self) -> str:
        """What is written."""


class LimitsRead(Struct, frozen=True):
    """The limits of one cgroup at one moment."""

    path: str
    inode: int
    """Of the cgroup where it is followed (``inode_of``)."""
    values: Mapping[str, Value]
    """Every limit that this cgroup offers, by key."""
    failures: tuple[KernelFileError, ...] = ()
    """Files that are there and could not be read or understood."""


def holder(hierarchies: Hierarchies, controller: str) -> Hierarchy | None:
    """Return the hierarchy that has a controller's limits; ``controller`` by v2's name, or ``freezer``."""
    found = hierarchies.holder(_V1_NAMES.get(controller, controller))
    if found is None and controller in _V1_NAMES:
        found = hierarchies.holder(controller)
    # Every cgroup of the unified hierarchy can be frozen; it is no controller there.
    return hierarchies.unified if found is None and controller in {"", "freezer"} else found


def versions(hierarchies: Hierarchies) -> dict[str, int]:
    """Return which version has each controller's limits, as ``change.Tree.versions``."""
    found = {name: holder(hierarchies, name) for name in CONTROLLERS_OF_LIMITS}
    return {name: hierarchy.version for name, hierarchy in found.items() if hierarchy}


def inode_of(hierarchies: Hierarchies, path: str) -> int:
    """Return the inode that identifies the cgroup: in the first hierarchy that is sampled and has it.

    The same one as in ``model.Cgroup``. Raises ``FileMissingError`` when no hierarchy has it.
    """
    for hierarchy in _in_order(hierarchies):
        try:
            return os.stat(hierarchy.locate(path)).st_ino
        except OSError:
            continue
    raise FileMissingError(path, "there is no such cgroup", errno.ENOENT)


def _in_order(hierarchies: Hierarchies) -> Iterator[Hierarchy]:
    always = frozenset().union(*(each.v1_names for each in CONTROLLERS if not each.optional))
    yield from (each for each in hierarchies.v1 if each.controllers & always)
    if hierarchies.unified:
        yield hierarchies.unified
    yield from (each for each in hierarchies.v1 if not each.controllers & always)


def read_limits(hierarchies: Hierarchies, path: str, *, devices: Iterable[str] = ()) -> LimitsRead:
    """Read every limit of a cgroup.

    ``devices``: block devices (``8:0``) whose bounds are to be there also where they have none. Raises
    ``FileMissingError`` when there is no such cgroup.
    """
    inode = inode_of(hierarchies, path)
    values: dict[str, Value] = {}
    failures: list[KernelFileError] = []
    for hierarchy, wanted in _by_hierarchy(hierarchies).items():
        directory = hierarchy.locate(path)
        try:
            names = os.listdir(directory)
        except OSError as error:
            if not isinstance(found := from_os_error(directory, error), FileMissingError):
                failures.append(found)
            continue
        for name in sorted(names):
            if name.partition(".")[0] not in wanted or not is_limit_file(hierarchy.version, name):
                continue
            try:
                values |= _read(hierarchy, path, name)
            except KernelFileError as failure:
                failures.append(failure)
            else:
                values |= _without_bounds(hierarchy, name, devices, values)
    return LimitsRead(path, inode, settled(values), tuple(failures))


def _by_hierarchy(hierarchies: Hierarchies) -> dict[Hierarchy, set[str]]:
    """Return the first words of the files of those controllers that each hierarchy has."""
    found: dict[Hierarchy, set[str]] = {}
    for controller in CONTROLLERS_OF_LIMITS:
        if hierarchy := holder(hierarchies, controller):
            name = _V1_NAMES.get(controller, controller) if hierarchy.version != V2 else controller
            word = "cgroup" if name == "freezer" and hierarchy.version == V2 else name
            found.setdefault(hierarchy, set()).add(word)
    return found


def _read(hierarchy: Hierarchy, path: str, name: str) -> dict[str, Value]:
    file = f"{hierarchy.locate(path)}/{name}"
    raw = read_file(file)
    try:
        return parse_file(hierarchy.version, name, raw)
    except FormatError as error:
        raise MalformedFileError(file, str(error)) from error


def read_file(file: str) -> bytes:
    """Return all of one file. Raises ``KernelFileError``."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = [os.read(descriptor, _LONGEST_FILE)]
            while parts[-1]:
                parts.append(os.read(descriptor, _LONGEST_FILE))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_os_error(file, error) from error
    return b"".join(parts)


def _without_bounds(
    hierarchy: Hierarchy, name: str, devices: Iterable[str], values: Mapping[str, Value]
) -> dict[str, Value]:
    """Return no limit for those bounds of this file that it does not mention."""
    keys = [key for device in devices for key in device_keys(device) if key not in values]
    places = {key: knob_of(key).place(hierarchy.version) for key in keys}
    return {key: knob_of(key).default for key, place in places.items() if place and place.file == name}


def read_limit(hierarchies: Hierarchies, path: str, key: str) -> Value:
    """Read one limit. Raises ``KernelFileError``; ``FileMissingError`` where this node has no such limit."""
    knob = knob_of(key)
    hierarchy = holder(hierarchies, knob.controller)
    place = knob.place(hierarchy.version) if hierarchy else None
    if hierarchy is None or place is None:
        problem = knob.absent if hierarchy else f"this node has no {knob.controller} controller"
        raise FileMissingError(f"{path}: {key}", problem, errno.ENOENT)
    values: dict[str, Value] = {}
    for name in _files(place):
        values |= _read(hierarchy, path, name)
    return settled(values).get(key, knob.default)


def _files(place: Place) -> tuple[str, ...]:
    return tuple(filter(None, (place.read_file or place.file, place.above_file)))


class NotOpenedError(OSError):
    """The file could not even be opened."""


def write_file(file: str, raw: bytes) -> None:
    """Write a file once. Raises ``NotOpenedError``, or ``OSError`` as the kernel answers the write."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotOpenedError(error.errno, error.strerror, file) from error
    try:
        written = os.write(descriptor, raw)
    finally:
        os.close(descriptor)
    if written != len(raw):
        raise OSError(errno.EIO, f"only {written} of {len(raw)} bytes were taken", file)


def write_step(
    hierarchies: Hierarchies, step: Writing, write: Callable[[str, bytes], None] = write_file
) -> None:
    """Do one step: open the file, write once, close it; ``write`` does that.

    It may block while the kernel reclaims. Raises a ``KernelFileError``: ``LimitBusyError``,
    ``ValueRefusedError`` or ``ReclaimedLessError`` where the kernel refused, ``AccessDeniedError``,
    ``NotSupportedError``, and ``FileMissingError`` or ``CgroupGoneError`` where the cgroup is gone.
    """
    hierarchy = hierarchies.unified if not step.controller else holder(hierarchies, step.controller)
    if hierarchy is None:
        raise FileMissingError(step.path, f"this node has no {step.controller} controller", errno.ENOENT)
    file = f"{hierarchy.locate(step.path)}/{step.file}"
    try:
        write(file, step.text.encode("ascii"))
    except OSError as error:
        raise _refused(file, step, error, is_open=not isinstance(error, NotOpenedError)) from error


def _refused(file: str, step: Writing, error: OSError, *, is_open: bool) -> KernelFileError:
    number = error.errno or 0
    directory = os.path.dirname(file)
    is_there = number == errno.ENODEV and os.path.exists(directory)
    return refused(directory, step.file, step.text, number, opened=is_open, is_there=is_there)
