"""Copy what /proc and /sys say of a node and of some processes: ``tests.real.capture``'s other half.

Nothing of the machine itself is copied: no path, no address of a socket's peer, no firmware's identifier.
"""

from __future__ import annotations

import contextlib
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PROC = Path("/proc")
SYS = Path("/sys")
MOST_BYTES = 64 << 10
"""A file with more is not copied."""
MOST_ENTRIES = 64
"""Of threads and of open files of one process."""
_KTHREADD = "2"  # parent of all kernel threads; its network namespace is the host's

_SOCKET_FILES = ("tcp", "tcp6", "udp", "udp6")
_NETWORK_FILES = tuple(f"net/{name}" for name in ("dev", "netstat", "snmp", *_SOCKET_FILES))
_MACHINE_FILES = (
    *("cgroups", "cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "uptime", "vmstat"),
    *("pressure/cpu", "pressure/io", "pressure/memory", "pressure/irq"),
    *("sys/kernel/osrelease", f"{_KTHREADD}/comm", *(f"1/{name}" for name in _NETWORK_FILES)),
)
_PROCESS_FILES = ("cgroup", "comm", "limits", "schedstat", "stat", *_NETWORK_FILES)
_SYS_FILES = (
    *("devices/system/cpu/online", "devices/system/node/online"),
    *(f"devices/system/node/node*/{name}" for name in ("cpulist", "distance", "meminfo")),
    "devices/system/node/node*/hugepages/hugepages-*/nr_hugepages",
    *(
        f"devices/system/cpu/cpu*/topology/{name}"
        for name in ("core_id", "physical_package_id", "thread_siblings_list")
    ),
    *(
        f"devices/system/cpu/cpu*/cache/index*/{name}"
        for name in ("id", "level", "shared_cpu_list", "size", "type")
    ),
    *(f"devices/system/edac/mc/mc*/*/{name}" for name in ("dimm_mem_type", "size")),
)
_BOOT_ID = "00000000-0000-4000-8000-000000000000\n"
_PRODUCT_UUID = "00000000-0000-4000-8000-00000000cafe\n"
_SOCKET = re.compile(rb"\s*\d+: ([0-9A-F]+):[0-9A-F]{4} ([0-9A-F]+):[0-9A-F]{4} ([0-9A-F]{2}) ")
_TIME_WAIT = b"06"
# Unspecified and loopback, as net/tcp and net/tcp6 print them on a little-endian machine.
_NOWHERE_ELSE = re.compile(rb"(0{8}|0100007F)|(0{32}|0{24}01000000|0{16}FFFF00000100007F)")


def copy(source: Path, target: Path) -> None:
    """Copy one kernel file, or leave it out: it is only written, the kernel has no answer, it is large."""
    with contextlib.suppress(OSError):  # EINVAL, ENODEV, EOPNOTSUPP; ENOENT and ESRCH for what has just gone
        if not stat.S_IMODE(source.stat().st_mode) & 0o444:
            return
        text = source.read_bytes()
        if source.name in _SOCKET_FILES:
            text = b"".join(line for line in text.splitlines(keepends=True) if _is_shown(line))
        if len(text) <= MOST_BYTES:
            write(target, text)


def write(target: Path, text: bytes) -> None:
    """Write a file, and the folders that it is in."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text)


def copy_node(out: Path, skipped: Collection[str]) -> None:
    """Copy what is said of the node: ``out/proc`` and ``out/sys``.

    ``skipped`` are the cgroup hierarchies that mountinfo does not tell of, by their folders' names.
    """
    proc = out / "proc"
    for name in _MACHINE_FILES:
        copy(PROC / name, proc / name)
    _copy_link(PROC / _KTHREADD / "ns/net", proc / _KTHREADD / "ns/net")
    write(proc / "version", re.sub(rb"\(\S+@\S+\)", b"(builder@host)", (PROC / "version").read_bytes()))
    write(proc / "sys/kernel/random/boot_id", _BOOT_ID.encode())
    lines = (PROC / "self/mountinfo").read_text().splitlines(keepends=True)
    mounts = "".join(line for line in lines if _belongs(line, skipped))
    write(proc / "self/mountinfo", mounts.encode())
    for place in (place for pattern in _SYS_FILES for place in SYS.glob(pattern)):
        copy(place, out / "sys" / place.relative_to(SYS))
    uuid = "class/dmi/id/product_uuid"
    if (SYS / uuid).exists():
        write(out / "sys" / uuid, _PRODUCT_UUID.encode())


def copy_processes(pids: Iterable[int], proc: Path) -> None:
    """Copy what is said of each process, of its threads and of its open files."""
    for pid in sorted(pids):
        source, target = PROC / str(pid), proc / str(pid)
        for name in _PROCESS_FILES:
            copy(source / name, target / name)
        for thread in _some(source / "task"):
            copy(thread / "stat", target / "task" / thread.name / "stat")
        for descriptor in _some(source / "fd"):
            _copy_link(descriptor, target / "fd" / descriptor.name)
        _copy_link(source / "ns/net", target / "ns/net")


def _belongs(line: str, skipped: Collection[str]) -> bool:
    """Tell whether a line of mountinfo is the kernel's business, and not this machine's."""
    point = Path(line.split()[4])
    kernel = point == Path("/") or any(point.is_relative_to(root) for root in ("/proc", "/sys", "/dev"))
    return kernel and not (" - cgroup" in line and point.name in skipped)


def _some(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # it has ended
        return sorted(folder.iterdir(), key=lambda place: int(place.name))[:MOST_ENTRIES]
    return []


def _without_path(link: str) -> str:
    """Keep what the kernel says, such as ``socket:[4711]`` and ``/dev/null``, and hide a file's name."""
    return link if ":[" in link or link.startswith(("anon_inode:", "/dev/")) else "/some/file"


def _is_shown(line: bytes) -> bool:
    """Tell whether a line of net/tcp and its like is of somebody's socket, and names no place elsewhere."""
    found = _SOCKET.match(line)
    if found is None:
        return True
    local, remote, state = found.groups()
    return state != _TIME_WAIT and all(_NOWHERE_ELSE.fullmatch(address) for address in (local, remote))


def _copy_link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        said = _without_path(str(source.readlink()))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(said)
