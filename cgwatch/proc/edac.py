"""``/sys/devices/system/edac/mc``: the memory modules, where a driver of their controller watches over them.

Documentation/admin-guide/RAS/main.rst (before 6.9 ras.rst), since Linux 3.6: ``mc*/dimm*/dimm_mem_type`` and
``mc*/dimm*/size``, in MiB. Most virtual machines and many others have no such driver.
"""

from __future__ import annotations

import os
import re

from msgspec import Struct

from cgwatch.errors import FileMissingError, from_os_error
from cgwatch.proc.reading import number, parsed, read_bytes, text

_MEBIBYTE = 1 << 20
_CONTROLLER = re.compile(r"mc\d+")
_DIMM = re.compile(r"dimm\d+")


class Dimms(Struct, frozen=True):
    """The memory modules of one type."""

    count: int
    capacity_bytes: int


def read_dimms(sys_root: str = "/sys") -> dict[str, Dimms]:
    """Return the modules by the kernel's word for their type, such as ``Unbuffered-DDR4``.

    Empty without a driver.

    Raises a ``KernelFileError`` with the path.
    """
    found: dict[str, Dimms] = {}
    controllers = f"{sys_root}/devices/system/edac/mc"
    for controller in _directories(controllers, _CONTROLLER):
        for dimm in _directories(controller, _DIMM):
            kind = text(read_bytes(f"{dimm}/dimm_mem_type").strip())
            size_bytes = parsed(f"{dimm}/size", read_bytes(f"{dimm}/size"), parse_size)
            before = found.get(kind, Dimms(0, 0))
            found[kind] = Dimms(before.count + 1, before.capacity_bytes + size_bytes)
    return found


def parse_size(data: bytes) -> int:
    """Return the bytes of a module's ``size``; ``ValueError`` when it is no number."""
    return number(data.strip()) * _MEBIBYTE


def _directories(path: str, name: re.Pattern[str]) -> list[str]:
    try:
        entries = os.listdir(path)
    except OSError as error:
        fault = from_os_error(path, error)
        if isinstance(fault, FileMissingError):
            return []
        raise fault from error
    return [f"{path}/{entry}" for entry in sorted(entries) if name.fullmatch(entry)]
