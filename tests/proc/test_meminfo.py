from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import meminfo
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from pathlib import Path

KERNEL_6_18 = b"""\
MemTotal:       24684084 kB
MemFree:        24395972 kB
MemAvailable:   24337584 kB
Buffers:            1884 kB
Cached:            62056 kB
SwapCached:            7 kB
Active(anon):       1528 kB
SwapTotal:       2097148 kB
SwapFree:        2000000 kB
Zswap:                 0 kB
VmallocTotal:   34359738367 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
DirectMap1G:    25165824 kB
"""

KERNEL_2_4 = b"""\
        total:    used:    free:  shared: buffers:  cached:
Mem:  261709824 253407232  8302592        0 120745984 48689152
Swap: 402997248  8011776 394985472
MemTotal:       255576 kB
MemFree:          8108 kB
MemShared:           0 kB
Buffers:        117916 kB
Cached:          45984 kB
SwapTotal:      393552 kB
SwapFree:       385728 kB
"""


def test_kilobytes_of_the_kernel_are_1024_bytes() -> None:
    assert meminfo.parse_meminfo(KERNEL_6_18) == meminfo.Meminfo(
        total_bytes=24684084 * 1024,
        free_bytes=24395972 * 1024,
        available_bytes=24337584 * 1024,
        buffers_bytes=1884 * 1024,
        cached_bytes=62056 * 1024,
        swap_total_bytes=2097148 * 1024,
        swap_free_bytes=2000000 * 1024,
    )


def test_before_linux_3_14_nothing_is_said_of_what_is_available() -> None:
    read = meminfo.parse_meminfo(KERNEL_2_4)
    assert read.available_bytes is None
    assert read.total_bytes == 255576 * 1024


def test_without_a_total_the_file_is_malformed() -> None:
    with pytest.raises(ValueError, match="no line MemTotal"):
        meminfo.parse_meminfo(b"MemFree: 1 kB\n")


@pytest.mark.parametrize("line", [b"MemFree: 1\n", b"MemFree: x kB\n", b"MemFree:\n", b"MemFree: 1 MB\n"])
def test_a_line_without_its_unit_is_an_error_and_never_a_zero(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a number"):
        meminfo.parse_meminfo(KERNEL_6_18 + line)


@given(st.binary() | st.binary().map(KERNEL_6_18.__add__))
def test_any_bytes_give_a_value_or_an_error_with_the_path(data: bytes) -> None:
    try:
        read = parsed("/proc/meminfo", data, meminfo.parse_meminfo)
    except MalformedFileError as error:
        assert error.path == "/proc/meminfo"  # noqa: PT017 - not raising is as good
    else:
        assert read.total_bytes >= 0


def test_this_machine_has_memory() -> None:
    read = meminfo.read_meminfo("/proc")
    assert read.free_bytes is not None
    assert read.total_bytes > read.free_bytes > 0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=f"{tmp_path}/meminfo"):
        meminfo.read_meminfo(str(tmp_path))
