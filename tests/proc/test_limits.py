from __future__ import annotations

import math
import os
import resource
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import limits
from cgwatch.proc.limits import ResourceLimit
from cgwatch.proc.reading import parsed

HEADER = b"Limit                     Soft Limit           Hard Limit           Units     \n"
KERNEL_6_18 = (
    HEADER
    + b"""\
Max cpu time              unlimited            unlimited            seconds   
Max stack size            8388608              unlimited            bytes     
Max open files            1024                 524288               files     
Max msgqueue size         819200               819200               bytes     
Max nice priority         0                    0                    
Max realtime timeout      unlimited            unlimited            us        
"""  # noqa: W291 - as the kernel prints it
)


def test_the_names_are_cadvisors_and_unlimited_is_infinite() -> None:
    assert limits.parse_limits(KERNEL_6_18) == {
        "max_cpu_time": ResourceLimit(math.inf, math.inf),
        "max_stack_size": ResourceLimit(8388608, math.inf),
        "max_open_files": ResourceLimit(1024, 524288),
        "max_msgqueue_size": ResourceLimit(819200, 819200),
        "max_nice_priority": ResourceLimit(0, 0),
        "max_realtime_timeout": ResourceLimit(math.inf, math.inf),
    }


def test_a_number_that_fills_its_column_ends_with_it() -> None:
    line = b"Max file size             18446744073709551614 18446744073709551614 bytes     \n"
    assert limits.parse_limits(HEADER + line) == {"max_file_size": ResourceLimit(2**64 - 2, 2**64 - 2)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Max open files            1024                 524288               files     \n",
        HEADER + b"Max open files            1024\n",
        HEADER + b"                          1024                 524288               files     \n",
        HEADER + b"Max open files            1024                 524288               files  a  b\n",
        HEADER + b"Max open files            some                 524288               files     \n",
    ],
)
def test_what_is_no_table_of_limits_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no header|not a limit|is not a number"):
        limits.parse_limits(data)


@given(st.binary() | st.binary().map(HEADER.__add__) | st.binary().map((HEADER + b"Max".ljust(25)).__add__))
def test_any_bytes_give_limits_or_an_error_with_the_path(data: bytes) -> None:
    try:
        found = parsed("/proc/7/limits", data, limits.parse_limits)
    except MalformedFileError as error:
        assert error.path == "/proc/7/limits"  # noqa: PT017 - not raising is as good
    else:
        assert all(name and limit.soft >= 0 and limit.hard >= 0 for name, limit in found.items())


def printed(value: float) -> str:
    return "unlimited" if value == math.inf else f"{value:d}"


VALUES = st.just(math.inf) | st.integers(0, 2**64 - 2)


@given(
    st.dictionaries(
        st.sampled_from(["cpu time", "open files", "realtime priority"]), st.tuples(VALUES, VALUES)
    )
)
def test_whatever_the_kernel_prints_is_read_back(rows: dict[str, tuple[float, float]]) -> None:
    lines = "".join(
        f"{'Max ' + name:<25} {printed(soft):<20} {printed(hard):<20} {'files':<10}\n"
        for name, (soft, hard) in rows.items()
    )
    assert limits.parse_limits(HEADER + lines.encode()) == {
        f"max_{name.replace(' ', '_')}": ResourceLimit(soft, hard) for name, (soft, hard) in rows.items()
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("max_open_files", resource.RLIMIT_NOFILE),
        ("max_processes", resource.RLIMIT_NPROC),
        ("max_stack_size", resource.RLIMIT_STACK),
        ("max_core_file_size", resource.RLIMIT_CORE),
        ("max_locked_memory", resource.RLIMIT_MEMLOCK),
        ("max_realtime_timeout", resource.RLIMIT_RTTIME),
    ],
)
def test_this_process_has_the_limits_that_the_kernel_tells_it(name: str, kind: int) -> None:
    expected = [math.inf if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(kind)]
    assert limits.read_limits("/proc", os.getpid())[name] == ResourceLimit(*expected)


def test_another_process_has_limits_of_its_own() -> None:
    with subprocess.Popen(
        ["sh", "-c", "ulimit -Sn 123 && echo ready && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert limits.read_limits("/proc", process.pid)["max_open_files"].soft == 123
        process.stdin.close()


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/limits: No such file"):
        limits.read_limits(str(tmp_path), 7)
