from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc.membership import UNIFIED, parse_membership, read_membership
from cgwatch.proc.reading import parsed


def test_each_controller_has_a_path() -> None:
    assert parse_membership(b"4:memory:/a:b\n3:cpu,cpuacct:/c\n1:name=systemd:/d\n0::/e\n") == {
        "memory": "/a:b",
        "cpu": "/c",
        "cpuacct": "/c",
        "name=systemd": "/d",
        UNIFIED: "/e",
    }


def test_a_cgroup_that_was_removed_has_its_path() -> None:
    assert parse_membership(b"0::/a/b (deleted)\n") == {UNIFIED: "/a/b"}


def test_a_name_that_is_no_utf8_is_spelled_as_the_log_spells_it() -> None:
    assert parse_membership(b"0::/a\xff\n") == {UNIFIED: "/a\\xff"}


@pytest.mark.parametrize("line", [b"0:/a", b"x::/a", b"0::a", b"0::", b"nonsense"])
def test_what_is_none_of_its_lines_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_membership(line + b"\n")


@given(st.binary() | st.binary().map(b"0::/".__add__))
def test_any_bytes_give_paths_or_an_error_with_the_path(data: bytes) -> None:
    try:
        found = parsed("/proc/1/cgroup", data, parse_membership)
    except MalformedFileError as error:
        assert error.path == "/proc/1/cgroup"  # noqa: PT017 - not raising is as good
    else:
        assert all(path.startswith("/") or not path for path in found.values())


def test_a_real_process_is_in_a_cgroup_and_one_that_is_not_there_is_missing(tmp_path: Path) -> None:
    if not Path("/proc/self/cgroup").exists():
        pytest.skip("this kernel has no cgroups")
    assert read_membership("/proc", os.getpid())
    with pytest.raises(FileMissingError, match="7/cgroup"):
        read_membership(str(tmp_path), 7)
