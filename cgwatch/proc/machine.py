"""What the machine is: CPUs, memory, identifiers, kernel, operating system.

psutil is asked only for what needs more than the given roots. Its ``cpu_count()`` is sysconf(3), which
musl and glibc 2.34 answer with the CPUs that this process itself may use; ``boot_time()`` and
``virtual_memory()`` take another root only through a global variable, which every thread would see, and
their errors do not name the file.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, TypeVar

import psutil
from msgspec import Struct

from cgwatch.errors import KernelFileError
from cgwatch.proc.meminfo import read_meminfo
from cgwatch.proc.reading import number, parsed, read_bytes, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_ESCAPED = re.compile(r"""\\([\\"'$`])""")


class Machine(Struct, frozen=True):
    """The node. A number that is not to be had is ``None``, a text is empty, as in cAdvisor's labels."""

    cores: int | None
    """Logical CPUs that are online."""
    physical_cores: int | None
    """Counted in each socket. cAdvisor counts ``core id`` alone, which repeats from socket to socket."""
    sockets: int | None
    books: int | None
    """Of s390x; 0 elsewhere."""
    drawers: int | None
    """Of s390x; 0 elsewhere."""
    memory_bytes: int | None
    swap_bytes: int | None
    machine_id: str
    """machine-id(5), of the host where its files can be seen, else of the agent's own root."""
    system_uuid: str
    """The firmware's, as it is printed, which only root may read; else ``machine_id``, as cAdvisor has it."""
    boot_id: str
    """Another one for each boot."""
    kernel_release: str
    """As of ``uname -r``."""
    os_name: str
    """``PRETTY_NAME`` of os-release(5), looked up as ``machine_id`` is."""
    boot_time_seconds: float | None
    """Since the epoch."""
    user_hz: int
    """Clock ticks a second, the unit of ``namespaces.start_ticks``."""


class MachineStat(Struct, frozen=True):
    """What ``/proc/stat`` says of the machine."""

    cores: int
    boot_time_seconds: float


class Cpuinfo(Struct, frozen=True):
    """How the CPUs of ``/proc/cpuinfo`` are built."""

    physical_cores: int | None
    """``None`` where the file has no ``core id`` (arm64, POWER)."""
    sockets: int
    books: int
    drawers: int


def read_machine(
    proc_root: str = "/proc",
    *,
    sys_root: str = "/sys",
    root: str = "/",
    failed: Callable[[KernelFileError], None],
) -> Machine:
    """Return all that can be had; never raises for a file.

    ``failed`` is called with the error of each file that every Linux has and that could not be read or
    understood. ``sys_root`` is where sysfs is, ``root`` is where ``/etc`` of the agent itself is.
    """
    stat = _attempt(lambda: read_machine_stat(proc_root), failed)
    cpuinfo = _attempt(lambda: read_cpuinfo(proc_root), failed)
    meminfo = _attempt(lambda: read_meminfo(proc_root), failed)
    # The root of pid 1 is the host's when proc_root is; it needs the right to trace pid 1.
    roots = (f"{proc_root}/1/root", root.rstrip("/"))
    machine_ids = [
        f"{base}/{name}" for base in roots for name in ("etc/machine-id", "var/lib/dbus/machine-id")
    ]
    return Machine(
        cores=stat.cores if stat else None,
        physical_cores=(cpuinfo.physical_cores or _cores_of_this_machine(sys_root)) if cpuinfo else None,
        sockets=cpuinfo.sockets if cpuinfo else None,
        books=cpuinfo.books if cpuinfo else None,
        drawers=cpuinfo.drawers if cpuinfo else None,
        memory_bytes=meminfo.total_bytes if meminfo else None,
        swap_bytes=meminfo.swap_total_bytes if meminfo else None,
        machine_id=_first_of(machine_ids, parse_identifier),
        system_uuid=_first_of(
            [
                f"{sys_root}/class/dmi/id/product_uuid",
                f"{proc_root}/device-tree/system-id",
                f"{proc_root}/device-tree/vm,uuid",
                *machine_ids,
            ],
            parse_identifier,
        ),
        boot_id=_attempt(lambda: read_boot_id(proc_root), failed) or "",
        kernel_release=_attempt(lambda: _read_text(f"{proc_root}/sys/kernel/osrelease"), failed) or "",
        os_name=_first_of(
            (f"{base}/{name}" for base in roots for name in ("etc/os-release", "usr/lib/os-release")),
            parse_os_name,
        ),
        boot_time_seconds=stat.boot_time_seconds if stat else None,
        user_hz=os.sysconf("SC_CLK_TCK"),
    )


def read_boot_id(proc_root: str = "/proc") -> str:
    """Return what tells this run of the machine from all others; raises a ``KernelFileError``."""
    return _read_text(f"{proc_root}/sys/kernel/random/boot_id")


def read_machine_stat(proc_root: str = "/proc") -> MachineStat:
    """Return CPUs and boot time of ``/proc/stat``; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/stat"
    return parsed(path, read_bytes(path), parse_machine_stat)


def parse_machine_stat(data: bytes) -> MachineStat:
    """Count ``cpu<n>``, one for each CPU online, and read ``btime``; ``ValueError`` without them."""
    cores = 0
    boot_time = None
    for line in data.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key.startswith(b"cpu") and key[3:].isdigit():
            cores += 1
        elif key == b"btime":
            boot_time = float(number(value.strip()))
    if not cores or boot_time is None:
        raise ValueError("no line cpu0 or no line btime")
    return MachineStat(cores, boot_time)


def read_cpuinfo(proc_root: str = "/proc") -> Cpuinfo:
    """Return the CPUs' build; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/cpuinfo"
    return parsed(path, read_bytes(path), parse_cpuinfo)


def parse_cpuinfo(data: bytes) -> Cpuinfo:
    """Count the distinct ids; every architecture has its own lines, so none is wrong."""
    seen: dict[bytes, set[bytes]] = {b"physical id": set(), b"book id": set(), b"drawer id": set()}
    cores = set()
    socket = b""
    for line in data.split(b"\n"):
        before, _, after = line.partition(b":")
        key, value = before.strip(), after.strip()
        if key in seen:
            seen[key].add(value)
        if key == b"physical id":
            socket = value
        elif key == b"core id":
            cores.add((socket, value))
    return Cpuinfo(
        physical_cores=len(cores) or None,
        sockets=len(seen[b"physical id"]) or 1,
        books=len(seen[b"book id"]),
        drawers=len(seen[b"drawer id"]),
    )


def parse_identifier(data: bytes) -> str:
    """Return an identifier without the white space around it; empty before systemd's first boot is over."""
    identifier = text(data.strip(b"\0 \t\n"))  # the device tree ends its texts with NUL
    return "" if identifier == "uninitialized" else identifier


def parse_os_name(data: bytes) -> str:
    """Return ``PRETTY_NAME`` without quotes and backslashes; empty where the file has none."""
    for line in text(data).split("\n"):
        key, _, value = line.partition("=")
        if key.strip() == "PRETTY_NAME":
            return _ESCAPED.sub(r"\1", _unquoted(value.strip()))
    return ""


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value


def _attempt(read: Callable[[], T], failed: Callable[[KernelFileError], None]) -> T | None:
    try:
        return read()
    except KernelFileError as error:
        failed(error)
        return None


def _read_text(path: str) -> str:
    return text(read_bytes(path).strip())


def _first_of(paths: Iterable[str], parse: Callable[[bytes], str]) -> str:
    # None of these files is the kernel's to promise, and most are closed to a container: not there is
    # nothing to report, and the next one may say more.
    for path in paths:
        try:
            found = parsed(path, read_bytes(path), parse)
        except KernelFileError:
            continue
        if found:
            return found
    return ""


def _cores_of_this_machine(sys_root: str) -> int | None:
    # psutil counts the topology in /sys/devices/system/cpu and takes no other root.
    if sys_root != "/sys":
        return None
    try:
        return psutil.cpu_count(logical=False)
    except (OSError, ValueError):
        return None
