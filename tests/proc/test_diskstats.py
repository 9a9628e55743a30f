from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import diskstats
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from pathlib import Path

KERNEL_6_18 = b"""\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 51651 7694 2895882 10590 15665 14152 3746616 7818 0 8808 18870 3966 63 711952 388 1714 72
 253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 259       1 nvme0n1p1 120 0 960 4 2 0 16 0 0 8 4 0 0 0 0 0 0
"""

KERNEL_2_6_18 = b"""\
   8    0 sda 19533 12217 897686 172836 66142 171084 1898282 1383020 0 142848 1556672
   8    1 sda1 31645 896450 237276 1898208
 104    0 cciss!c0d0 19533 12217 897686 172836 66142 171084 1898282 1383020 0 142848 1556672
"""


def write(proc: Path, data: bytes) -> None:
    (proc / "diskstats").write_bytes(data)


def test_numbers_give_names() -> None:
    assert diskstats.parse_diskstats(KERNEL_6_18) == {
        (7, 0): "loop0",
        (254, 0): "vda",
        (253, 0): "zram0",
        (259, 1): "nvme0n1p1",
    }


def test_old_kernels_print_fewer_columns_for_a_partition() -> None:
    names = diskstats.parse_diskstats(KERNEL_2_6_18)
    assert names == {(8, 0): "sda", (8, 1): "sda1", (104, 0): "cciss!c0d0"}


def test_a_machine_without_disks_has_no_names() -> None:
    assert diskstats.parse_diskstats(b"") == {}


@pytest.mark.parametrize("line", [b"8 0\n", b"8\n", b"x 0 sda 1\n", b"8 -1 sda 1\n"])
def test_a_line_that_names_no_device_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"no device name|is not a number"):
        diskstats.parse_diskstats(KERNEL_6_18 + line)


@given(st.binary() | st.binary().map(b" 8 0 ".__add__))
def test_any_bytes_give_names_or_an_error_with_the_path(data: bytes) -> None:
    try:
        names = parsed("/proc/diskstats", data, diskstats.parse_diskstats)
    except MalformedFileError as error:
        assert error.path == "/proc/diskstats"  # noqa: PT017 - not raising is as good
    else:
        assert all(names.values())


def test_an_exclamation_mark_stands_for_a_slash() -> None:
    assert diskstats.device_path("cciss!c0d0") == "/dev/cciss/c0d0"
    assert diskstats.device_path("vda") == "/dev/vda"


def test_a_known_device_needs_no_further_read(tmp_path: Path) -> None:
    write(tmp_path, KERNEL_6_18)
    names = diskstats.DeviceNames(str(tmp_path))
    assert names.path(254, 0) == "/dev/vda"
    (tmp_path / "diskstats").unlink()
    names.begin_tick()
    assert names.path(259, 1) == "/dev/nvme0n1p1"


def test_a_new_device_is_found_at_the_next_tick_and_not_before(tmp_path: Path) -> None:
    write(tmp_path, b"")
    names = diskstats.DeviceNames(str(tmp_path))
    assert names.path(254, 0) is None
    write(tmp_path, KERNEL_6_18)
    assert names.path(254, 0) is None
    names.begin_tick()
    assert names.path(254, 0) == "/dev/vda"


def test_a_device_that_stays_unknown_costs_one_read_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, KERNEL_6_18)
    reads: list[str] = []
    read = diskstats.read_diskstats

    def counting(proc_root: str) -> dict[tuple[int, int], str]:
        reads.append(proc_root)
        return read(proc_root)

    monkeypatch.setattr(diskstats, "read_diskstats", counting)
    names = diskstats.DeviceNames(str(tmp_path))
    for _ in range(3):
        names.begin_tick()
        assert [names.path(1, minor) for minor in range(10)] == [None] * 10
    assert len(reads) == 3


def test_a_failed_read_is_raised_once_a_tick_and_forgets_nothing(tmp_path: Path) -> None:
    write(tmp_path, KERNEL_6_18)
    names = diskstats.DeviceNames(str(tmp_path))
    assert names.path(254, 0) == "/dev/vda"
    (tmp_path / "diskstats").unlink()
    for _ in range(2):
        names.begin_tick()
        with pytest.raises(FileMissingError, match=f"{tmp_path}/diskstats"):
            names.path(8, 0)
        assert names.path(8, 0) is None
        assert names.path(254, 0) == "/dev/vda"


def test_this_kernel_lists_its_devices() -> None:
    diskstats.read_diskstats("/proc")
