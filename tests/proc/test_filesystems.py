from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError, ReadFailedError
from cgwatch.proc import filesystems
from cgwatch.proc.filesystems import (
    MOST_FILESYSTEMS,
    Mount,
    MountTable,
    local_filesystems,
    measure,
    parse_mountinfo,
    read_mount_table,
)
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from pathlib import Path

ID = "0123456789abcdef" * 4
NODE = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime shared:7 master:1 - sysfs sysfs rw
25 24 0:23 / /run rw,nosuid - tmpfs tmpfs rw,size=24684084k
27 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw,discard
28 27 254:2 / /srv/some\\040disk rw - xfs /dev/mapper/data rw
29 27 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
30 27 254:1 /var/lib/x /mnt/bound rw - ext4 /dev/vda1 rw
31 27 0:40 / /home rw - nfs4 server:/home rw
32 27 0:41 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,lowerdir=/x
33 27 0:42 /@ /btr rw - btrfs /dev/sdb1 rw,subvolid=256
34 27 0:42 /@home /btr/home rw - btrfs /dev/sdb1 rw,subvolid=257
35 27 0:43 / /tank rw - zfs tank rw
36 27 0:44 / /var/lib/kubelet/pods/1-2/volumes/kubernetes.io~secret/token rw - tmpfs tmpfs rw
37 27 0:45 / /var/lib/docker/containers/%b/mounts/shm rw - tmpfs shm rw
38 27 0:46 / /run/credentials/x.service ro - tmpfs tmpfs ro
39 27 0:4 / /run/netns/a rw - nsfs nsfs rw
""" % ID.encode()


def table(data: bytes = NODE, *, is_of_the_node: bool = True) -> MountTable:
    return MountTable(parse_mountinfo(data), "/proc/1/root", is_of_the_node)


def test_the_nodes_own_file_systems_are_those_of_disks_and_of_its_memory() -> None:
    found = local_filesystems(table())
    assert {device: mounts[0].mount_point for device, mounts in found.items()} == {
        "/dev/mapper/data": "/srv/some disk",
        "/dev/sdb1": "/btr",
        "/dev/vda1": "/",
        "tank": "/tank",
        "/run": "/run",
    }


def test_a_file_system_that_is_mounted_at_several_places_is_one_and_asked_at_its_root_first() -> None:
    found = local_filesystems(table(b"\n".join(reversed(NODE.strip().split(b"\n")))))
    assert [mount.mount_point for mount in found["/dev/vda1"]] == ["/", "/mnt/bound"]
    assert [mount.mount_point for mount in found["/dev/sdb1"]] == ["/btr", "/btr/home"]


def test_in_a_container_there_are_the_disks_of_the_host_that_something_is_bound_from_and_no_memory() -> None:
    container = b"""\
100 90 0:60 / / rw - overlay overlay rw,lowerdir=/x
101 100 0:61 / /dev rw - tmpfs tmpfs rw,size=65536k
102 100 254:1 /var/lib/docker/containers/a/hosts /etc/hosts rw - ext4 /dev/vda1 rw
"""
    found = local_filesystems(table(container, is_of_the_node=False))
    assert {device: mounts[0].mount_point for device, mounts in found.items()} == {"/dev/vda1": "/etc/hosts"}


def test_what_is_mounted_over_is_not_asked() -> None:
    covered = b"""\
40 27 254:7 / /mnt rw - ext4 /dev/vda7 rw
41 40 254:8 / /mnt rw - ext4 /dev/vda8 rw
"""
    assert list(local_filesystems(table(covered))) == ["/dev/vda8"]


def test_a_source_that_is_no_path_gives_way_to_the_devices_numbers() -> None:
    assert list(local_filesystems(table(b"1 0 8:3 / / rw - ext4 rootfs rw\n"))) == ["8:3"]


def test_two_disks_of_one_source_are_not_two_series_of_the_same_labels() -> None:
    lines = b"1 0 8:3 / / rw - ext4 /dev/root rw\n2 1 8:4 / /x rw - ext4 /dev/root rw\n"
    assert list(local_filesystems(table(lines))) == ["/dev/root"]


def test_there_is_a_bound_and_disks_come_first() -> None:
    lines = [b"%d 1 0:%d / /a%d rw - tmpfs tmpfs rw\n" % (n, n, n) for n in range(2, 2 * MOST_FILESYSTEMS)]
    found = local_filesystems(table(b"".join([*lines, b"9999 1 8:1 / /z rw - ext4 /dev/sda1 rw\n"])))
    assert len(found) == MOST_FILESYSTEMS
    assert "/dev/sda1" in found


@pytest.mark.parametrize("line", [b"", b"1 2 3", b"1 0 8 / / rw - ext4 x rw", b"1 0 8:1 / / rw ext4 x rw"])
def test_a_line_that_is_of_no_mount_table_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a line of a mount table|is not a number"):
        parse_mountinfo(NODE + line + b" \n")


@given(st.binary() | st.binary().map(b"1 0 8:1 / / rw - ext4 ".__add__))
def test_any_bytes_give_mounts_or_an_error_with_the_path(data: bytes) -> None:
    try:
        mounts = parsed("/proc/1/mountinfo", data, parse_mountinfo)
    except MalformedFileError as error:
        assert error.path == "/proc/1/mountinfo"  # noqa: PT017 - not raising is as good
    else:
        local_filesystems(MountTable(mounts, "", True))


@given(st.binary(min_size=1).filter(lambda name: not {*b" \n\\\0"} & {*name}))
def test_a_mount_point_of_any_bytes_finds_its_way_back_to_the_kernel(name: bytes) -> None:
    (mount,) = parse_mountinfo(b"1 0 8:1 / /" + name + b" rw - ext4 /dev/sda1 rw\n")
    assert os.fsencode(mount.mount_point) == b"/" + name


# The table of whom.


def make_proc(proc: Path, own: bytes, of_init: bytes | None, *, kthreadd: bool = True) -> str:
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_bytes(own)
    if kthreadd:
        (proc / "2").mkdir()
        (proc / "2/comm").write_text("kthreadd\n")
    if of_init is not None:
        (proc / "1").mkdir()
        (proc / "1/mountinfo").write_bytes(of_init)
    return str(proc)


OTHER = b"100 90 0:60 / / rw - overlay overlay rw\n"


def test_on_the_node_itself_its_own_mounts_are_those_of_the_node(tmp_path: Path) -> None:
    proc = make_proc(tmp_path, NODE, NODE + b"40 27 8:1 / /new rw - ext4 /dev/sda1 rw\n")
    found = read_mount_table(proc)
    assert (found.directory, found.is_of_the_node) == (f"{proc}/self/root", True)


def test_in_another_mount_namespace_inits_mounts_are_asked_below_its_root(tmp_path: Path) -> None:
    proc = make_proc(tmp_path, OTHER, NODE)
    (tmp_path / "1/root").mkdir()
    found = read_mount_table(proc)
    assert (found.directory, found.is_of_the_node) == (f"{proc}/1/root", True)
    assert len(found.mounts) == 16


@pytest.mark.parametrize(
    ("of_init", "kthreadd"),
    [(NODE, True), (None, True), (NODE, False)],
    ids=["no way below init's root", "no init", "pid 1 is a container's"],
)
def test_without_inits_mounts_there_are_its_own_which_are_not_the_nodes(
    tmp_path: Path, of_init: bytes | None, *, kthreadd: bool
) -> None:
    proc = make_proc(tmp_path, OTHER, of_init, kthreadd=kthreadd)
    found = read_mount_table(proc)
    assert (found.directory, found.is_of_the_node) == (f"{proc}/self/root", False)


def test_no_mount_table_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=f"{tmp_path}/self/mountinfo"):
        read_mount_table(str(tmp_path))


# How full they are.


def mount_at(path: Path | str, file_system: str = "ext4", *, device: int | None = None) -> Mount:
    number = os.stat(path).st_dev if device is None else device
    return Mount(1, os.major(number), os.minor(number), "/", str(path), file_system, "/dev/x")


def test_a_file_system_says_what_statvfs_says(tmp_path: Path) -> None:
    said, found = os.statvfs(tmp_path), measure("", "/dev/x", (mount_at(tmp_path),))
    assert found is not None
    assert found.device == "/dev/x"
    assert found.size_bytes == said.f_blocks * said.f_frsize
    assert found.inodes_total == (said.f_files or None)
    assert 0 <= found.available_bytes <= found.free_bytes <= found.size_bytes


def test_a_mount_that_another_one_covers_is_passed_over(tmp_path: Path) -> None:
    covered, seen = mount_at(tmp_path, device=os.makedev(400, 1)), mount_at(tmp_path)
    assert measure("", "x", (covered,)) is None
    assert measure("", "x", (covered, seen)) is not None
    assert measure("", "x", (mount_at(tmp_path, "btrfs", device=1),)) is not None


def test_a_mount_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    assert measure("", "x", (Mount(1, 8, 1, "/", f"{tmp_path}/gone", "ext4", "x"),)) is None


def test_a_disk_that_fails_is_an_error_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> os.statvfs_result:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "statvfs", fail)
    with pytest.raises(ReadFailedError, match=f"^{tmp_path}: Input/output error"):
        measure("", "x", (mount_at(tmp_path),))


def test_where_inodes_are_made_as_needed_nothing_is_said_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "statvfs", lambda _path: os.statvfs_result((4096, 4096, 10, 4, 3, 0, 0, 0, 0, 255))
    )
    found = measure("", "x", (mount_at(tmp_path),))
    assert found == filesystems.Filesystem("x", 40960, 16384, 12288, None, None)


def test_the_root_file_system_of_this_machine_can_be_asked() -> None:
    table = read_mount_table()
    for device, mounts in local_filesystems(table).items():
        found = measure(table.directory, device, mounts)
        assert found is None or found.size_bytes >= found.free_bytes
