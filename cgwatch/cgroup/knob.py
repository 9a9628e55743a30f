"""What a limit is: the type of a row of ``cgroup.knobs``. Pure."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

Value: TypeAlias = int | float | str
"""Bytes, counts, microseconds and weights as integers; ``math.inf``: no limit; the text of a list of CPUs or
memory nodes (``0-3,8``)."""

MOST_BYTES = 2**63 - 1
"""The kernel counts memory in a signed 64-bit number."""

V2 = 2
"""The version of the unified hierarchy."""


class Unit(StrEnum):
    """What a limit counts."""

    BYTES = "bytes"
    COUNT = "count"
    MICROSECONDS = "microseconds"
    WEIGHT = "weight"
    """A share of what there is, against the siblings' weights."""
    SWITCH = "switch"
    """0 or 1."""
    NUMBERS = "numbers"
    """A list of CPUs or memory nodes, such as ``0-3,8``; empty on v2: all of the parent's."""
    BYTES_PER_SECOND = "bytes per second"
    OPERATIONS_PER_SECOND = "operations per second"


class Combine(StrEnum):
    """How the limits of a cgroup and of all above it become what really holds."""

    LEAST = "least"
    RATIO = "ratio"
    """The least quota for its period: each cgroup may have its own period."""
    INTERSECTION = "intersection"
    ANY = "any"
    """1 as soon as one of them is 1."""
    NONE = "none"
    """It acts among siblings, or on this cgroup alone."""


class Rounding(StrEnum):
    """What the kernel rounds a number down to."""

    NONE = "none"
    PAGE = "page"
    HUGE_PAGE = "huge page"
    """Of the size in the key."""


class Per(StrEnum):
    """What a row stands for several limits by; the key names which."""

    CGROUP = "cgroup"
    DEVICE = "device"
    """A block device: ``io.max.rbps[8:0]``."""
    SIZE = "size"
    """Of huge pages: ``hugetlb.2MB.max``."""


class How(StrEnum):
    """How another program's interface writes a value."""

    SAME = "same"
    """The same number; "no limit" by its own word."""
    PLUS_MEMORY = "plus memory"
    """Memory and swap together."""
    SHARES = "shares"
    """As ``cpu.shares`` of v1; the runtime makes a weight of it by its formula (``cgroup.shares``)."""
    PER_SECOND = "per second"
    """Microseconds of CPU time for each second, whatever the period."""
    MASK = "mask"
    """A bit for each number, as an array of bytes."""
    DEVICES = "devices"
    """An array of a device's path and a number."""
    BLKIO_WEIGHT = "blkio weight"
    """10 to 1000, as CFQ had it; the runtime brings it to the range of the kernel's file."""
    SIZES = "sizes"
    """An array of a page's size and a number."""
    UNIFIED = "unified"
    """The text of a v2 file, by its name."""


class Said(Struct, frozen=True):
    """A field of another program's interface: Docker's update, CRI's, a systemd property."""

    field: str
    how: How = How.SAME


class Place(Struct, frozen=True):
    """Where one version of cgroups keeps a limit."""

    controller: str
    """By that version's own name (``blkio``); empty: the unified hierarchy's core."""
    file: str
    word: str = ""
    """Which of the numbers in the file: its key (``rbps``), or its place (``quota``, ``period``)."""
    since: tuple[int, int] = (0, 0)
    """The first kernel that has it."""
    needs: str = ""
    """What else it depends on: a kernel option, a boot parameter, an I/O scheduler."""
    read_file: str = ""
    """Where it is read, if not in ``file``."""
    above_file: str = ""
    """The file's number is this limit and that of this other file together."""


class Knob(Struct, frozen=True):
    """One row: a limit, what it may be, and what everybody calls it."""

    key: str
    """In the table ``DEVICE`` and ``SIZE`` stand for which; as ``knob_of`` gives it, the key itself."""
    controller: str
    """v2's name, also for what v1 alone has: the one that ``change.Tree.versions`` knows. ``freezer`` for
    ``cgroup.freeze``."""
    unit: Unit
    v2: Place | None = None
    v1: Place | None = None
    absent: str = ""
    """Why one of the two versions has not got it, and what to use there."""
    least: int = 0
    most: int = MOST_BYTES
    """The largest number that the kernel takes; ``math.inf`` is beside it where ``unlimited``."""
    unlimited: bool = True
    """Whether it can be ``math.inf``."""
    default: Value = math.inf
    """The kernel's, of a new cgroup."""
    rounding: Rounding = Rounding.NONE
    combine: Combine = Combine.LEAST
    per: Per = Per.CGROUP
    detail: str = ""
    """Which device (``8:0``) or size (``2MB``) it is; empty in the table, and where there is one alone."""
    coupled: tuple[str, ...] = ()
    """Keys that the kernel, or we, check or write together with it."""
    docker: Said | None = None
    """Of ``POST /containers/ID/update``."""
    cri: Said | None = None
    """Of ``LinuxContainerResources``."""
    systemd: Said | None = None
    """D-Bus property of a unit; numbers are unsigned 64-bit, "no limit" is 2^64-1."""
    flags: tuple[str, ...] = ()
    """Of ``docker run`` and ``docker update``."""

    def place(self, version: int) -> Place | None:
        """Where that version keeps it; ``None``: nowhere, see ``absent``."""
        return self.v2 if version == V2 else self.v1

    @property
    def family(self) -> str:
        """The row's key in the table: the same for all devices or sizes."""
        if self.per is Per.DEVICE:
            return self.key.replace(f"[{self.detail}]", "[DEVICE]")
        return self.key.replace(f".{self.detail}.", ".SIZE.") if self.per is Per.SIZE else self.key
