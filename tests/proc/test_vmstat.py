from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc.reading import parsed
from cgwatch.proc.vmstat import Vmstat, parse_vmstat, read_vmstat

if TYPE_CHECKING:
    from pathlib import Path

KERNEL_6_18 = b"""\
nr_free_pages 6011343
pgmigrate_fail 0
oom_kill 8
numa_pte_updates 0
"""


def test_the_kills_of_the_whole_node_are_counted() -> None:
    assert parse_vmstat(KERNEL_6_18) == Vmstat(oom_kills_total=8)


def test_before_linux_4_13_the_kernel_does_not_count_them() -> None:
    assert parse_vmstat(b"nr_free_pages 1\npgfault 2\n") == Vmstat(oom_kills_total=None)


@pytest.mark.parametrize("line", [b"oom_kill\n", b"oom_kill x\n", b"oom_kill -1\n", b"oom_kill 1 2\n", b""])
def test_a_wrong_line_is_an_error_and_never_a_zero(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a count|no lines"):
        parse_vmstat(line)


@given(st.binary() | st.binary().map(KERNEL_6_18.__add__))
def test_any_bytes_give_a_value_or_an_error_with_the_path(data: bytes) -> None:
    try:
        read = parsed("/proc/vmstat", data, parse_vmstat)
    except MalformedFileError as error:
        assert error.path == "/proc/vmstat"  # noqa: PT017 - not raising is as good
    else:
        assert read.oom_kills_total is None or read.oom_kills_total >= 0


def test_this_kernel_counts_them() -> None:
    read = read_vmstat("/proc")
    assert read.oom_kills_total is not None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=f"{tmp_path}/vmstat"):
        read_vmstat(str(tmp_path))
