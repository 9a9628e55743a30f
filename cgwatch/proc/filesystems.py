"""How full the node's own file systems are: the mount table, and statvfs(2) of each.

``/proc/<pid>/mountinfo`` (proc_pid_mountinfo(5))::

    27 1 254:1 / /srv rw,relatime shared:1 - ext4 /dev/vda1 rw

Mount points are as the process sees them, so they are looked up below ``/proc/<pid>/root``. statvfs of a disk
that dies may never return: call ``measure`` where that does no harm.
"""

from __future__ import annotations

import os
import re

from msgspec import Struct

from cgwatch.errors import AccessDeniedError, FileMissingError, KernelFileError, from_os_error
from cgwatch.proc.reading import number, parsed, read_bytes, shown

MOST_FILESYSTEMS = 256
"""More are the work of a loop; those of disks come first."""

_INIT, _SELF = "1", "self"
_KTHREADD = "2"
_ESCAPED = re.compile(r"\\([0-7]{3})")
_FIELDS_BEFORE, _FIELDS_AFTER = 6, 2
_IMAGES = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs", "romfs"})
"""Always full, and nothing can be done about it."""
_OF_SEVERAL_DEVICES = frozenset({"btrfs", "zfs", "bcachefs"})
"""They lie on disks, under a device number that is none of a disk's."""
_NUMBERED_BY_SUBVOLUME = frozenset({"btrfs", "bcachefs"})
_OF_A_CONTAINER = re.compile(r".*(/kubelet/pods/|/[0-9a-f]{64}(/|$)|/run/credentials/)")
"""A tmpfs that is mounted into a container or a unit: one for each secret, and its own memory."""


class Mount(Struct, frozen=True):
    """One line of a mount table."""

    mount_id: int
    major: int
    minor: int
    root: str
    """What of the file system is mounted: ``/`` unless it is a part (a bind mount, a subvolume)."""
    mount_point: str
    file_system: str
    source: str
    """What was told to mount(8), such as ``/dev/vda1``."""


class MountTable(Struct, frozen=True):
    """The mounts that one process sees."""

    mounts: tuple[Mount, ...]
    directory: str
    """Where its root is in our file system."""
    is_of_the_node: bool
    """Whether it is that of the node's init; else it is this process's own, which may be a container's."""


class Filesystem(Struct, frozen=True):
    """One file system, as statvfs(2) has it; ``None`` where it does not count."""

    device: str
    """As cAdvisor calls it: the source of its mount, and the mount point of a tmpfs."""
    size_bytes: int
    free_bytes: int
    """With what is kept for root."""
    available_bytes: int
    """Without it."""
    inodes_total: int | None
    """``None``: it makes them as they are needed (btrfs, vfat)."""
    inodes_free: int | None


def read_mount_table(proc_root: str = "/proc") -> MountTable:
    """Return the mounts of the node: this process's own where it shares them with init, else init's.

    To look below init's root takes the right to trace it. Without, or in another pid namespace, all that is
    left is this process's own, as a container has them. Raises a ``KernelFileError`` with the path.
    """
    own = MountTable(_read_mounts(proc_root, _SELF), f"{proc_root}/{_SELF}/root", False)
    if not _has_init_of_the_node(proc_root):
        return own
    try:
        of_init = MountTable(_read_mounts(proc_root, _INIT), f"{proc_root}/{_INIT}/root", True)
    except (AccessDeniedError, FileMissingError):
        return own
    # No two mounts have one number, whatever namespace they are in.
    if {mount.mount_id for mount in own.mounts} & {mount.mount_id for mount in of_init.mounts}:
        return MountTable(own.mounts, own.directory, True)
    return of_init if os.path.exists(f"{of_init.directory}/") else own


def _has_init_of_the_node(proc_root: str) -> bool:
    try:
        return read_bytes(f"{proc_root}/{_KTHREADD}/comm") == b"kthreadd\n"
    except KernelFileError:
        return False


def _read_mounts(proc_root: str, pid: str) -> tuple[Mount, ...]:
    path = f"{proc_root}/{pid}/mountinfo"
    return parsed(path, read_bytes(path), parse_mountinfo)


def parse_mountinfo(data: bytes) -> tuple[Mount, ...]:
    """Return the mounts in the order of the table; ``ValueError`` says what is wrong."""
    return tuple(_mount(line) for line in data.split(b"\n") if line)


def _mount(line: bytes) -> Mount:
    before, separator, after = (part.split(b" ") for part in line.partition(b" - "))
    major, colon, minor = before[2].partition(b":") if len(before) >= _FIELDS_BEFORE else (b"", b"", b"")
    if separator == [b""] or not colon or len(after) < _FIELDS_AFTER:
        raise ValueError(f"not a line of a mount table: {shown(line)}")
    names = map(_unescaped, (before[3], before[4], after[0], after[1]))
    return Mount(number(before[0]), number(major), number(minor), *names)


def _unescaped(token: bytes) -> str:
    # A name that is no UTF-8 has to find its way back to the kernel.
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), os.fsdecode(token))


def local_filesystems(table: MountTable) -> dict[str, tuple[Mount, ...]]:
    """Return the node's own file systems: device -> where it is mounted, the best place to ask first.

    Those of block devices, once each however often they are mounted (bind mounts); of the memory of the node
    itself, a tmpfs for each mount point. None that another machine serves, and no overlay: what that has is
    its upper directory's, which is counted already. In a container without the host's mounts these are the
    file systems of the host that something is bound from, such as ``/etc/hosts``.
    """
    # What was mounted last at a mount point covers all that was mounted there before.
    visible = {mount.mount_point: mount for mount in table.mounts}
    found: dict[str, list[Mount]] = {}
    names: dict[object, str] = {}
    for mount in visible.values():
        if mount.file_system == "tmpfs":
            if table.is_of_the_node and not _OF_A_CONTAINER.match(mount.mount_point):
                found[mount.mount_point] = [mount]
            continue
        if mount.file_system in _IMAGES:
            continue
        if mount.major:
            key: object = (mount.major, mount.minor)
            name = mount.source if mount.source.startswith("/") else f"{mount.major}:{mount.minor}"
        elif mount.file_system in _OF_SEVERAL_DEVICES:
            key = name = mount.source
        else:
            continue
        found.setdefault(names.setdefault(key, name), []).append(mount)
    disks_first = sorted(found, key=lambda device: (found[device][0].file_system == "tmpfs", device))
    return {device: tuple(sorted(found[device], key=_rank)) for device in disks_first[:MOST_FILESYSTEMS]}


def _rank(mount: Mount) -> tuple[bool, int, str]:
    return mount.root != "/", len(mount.mount_point), mount.mount_point


def measure(directory: str, device: str, mounts: tuple[Mount, ...]) -> Filesystem | None:
    """Ask a file system at the first of its mounts that can be seen; ``None`` where none can.

    ``directory`` is the root of the mount table. Blocks for as long as the disk does. Raises a
    ``KernelFileError`` with the path when the file system does not answer.
    """
    for mount in mounts:
        path = directory + mount.mount_point
        try:
            # A mount further up may have covered it, and would answer in its stead.
            numbers = os.stat(path).st_dev
            if mount.file_system not in _NUMBERED_BY_SUBVOLUME and numbers != os.makedev(
                mount.major, mount.minor
            ):
                continue
            said = os.statvfs(path)
        except OSError as error:
            fault = from_os_error(path, error)
            if isinstance(fault, FileMissingError | AccessDeniedError):
                continue  # unmounted, or of another user (fuse)
            raise fault from error
        return Filesystem(
            device,
            size_bytes=said.f_blocks * said.f_frsize,
            free_bytes=said.f_bfree * said.f_frsize,
            available_bytes=said.f_bavail * said.f_frsize,
            inodes_total=said.f_files or None,
            inodes_free=said.f_ffree if said.f_files else None,
        )
    return None
