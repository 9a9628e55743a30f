"""``/proc/diskstats``: the names of block devices, which cgroup files call by number only.

::

     254       0 vda 51651 7694 2895882 10590 15665 14152 3746616 7818 0 8808 18870 3966 63 711952 388 ...

Documentation/admin-guide/iostats.rst. Only the first three columns are read, so it does not matter that
the kernel printed 7 of them for partitions before 2.6.25, and 14, 18 and 20 for all since then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_COLUMN = 2


def read_diskstats(proc_root: str = "/proc") -> dict[tuple[int, int], str]:
    """Return (major, minor) -> kernel name; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/diskstats"
    return parsed(path, read_bytes(path), parse_diskstats)


def parse_diskstats(data: bytes) -> dict[tuple[int, int], str]:
    """Return (major, minor) -> kernel name; ``ValueError`` says what is wrong."""
    names = {}
    for line in data.split(b"\n"):
        columns = line.split(maxsplit=_NAME_COLUMN + 1)
        if not columns:
            continue
        if len(columns) <= _NAME_COLUMN:
            raise ValueError(f"no device name: {shown(line)}")
        names[number(columns[0]), number(columns[1])] = text(columns[_NAME_COLUMN])
    return names


def device_path(name: str) -> str:
    """Return the device's path; the kernel writes a slash in a name as ``!`` (``cciss!c0d0``)."""
    return "/dev/" + name.replace("!", "/")


class DeviceNames:
    """Device numbers to paths; the file is read again only for a number that is not known.

    A number that stays unknown costs one read a tick, however often it is asked for: ``begin_tick``
    allows the next one. The first read needs no ``begin_tick``.
    """

    def __init__(self, proc_root: str = "/proc") -> None:
        self._proc_root = proc_root
        self._names: Mapping[tuple[int, int], str] = {}
        self._may_read = True

    def begin_tick(self) -> None:
        """Allow one more read of the file."""
        self._may_read = True

    def path(self, major: int, minor: int) -> str | None:
        """Return the path such as ``/dev/vda``, or ``None`` when the kernel lists no such device.

        Raises a ``KernelFileError`` when the file had to be read and could not be, at most once a tick;
        what was known before stays known.
        """
        device = (major, minor)
        if device not in self._names and self._may_read:
            self._may_read = False
            self._names = read_diskstats(self._proc_root)
        name = self._names.get(device)
        return None if name is None else device_path(name)
