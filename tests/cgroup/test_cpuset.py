from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import cpuset
from cgwatch.cgroup.formats import FormatError


def as_the_kernel_prints(numbers: set[int]) -> str:
    """Write a bit mask as ranges, the slow way."""
    ranges = []
    for number in sorted(numbers):
        if number - 1 not in numbers:
            end = number
            while end + 1 in numbers:
                end += 1
            ranges.append(f"{number}-{end}" if end > number else str(number))
    return ",".join(ranges)


@given(st.sets(st.integers(0, 65535), max_size=50) | st.sets(st.integers(0, 40)))
def test_a_list_has_as_many_cpus_as_its_mask_has_bits(numbers: set[int]) -> None:
    assert cpuset.parse_list(f"{as_the_kernel_prints(numbers)}\n".encode()) == len(numbers)


def test_a_cpuset_of_v1_that_nobody_has_configured_has_no_cpu() -> None:
    assert cpuset.parse_list(b"\n") == 0


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"0", b"0,\n", b",0\n", b"0-\n", b"-3\n", b"3-0\n", b"0,0\n", b"4,2\n", b"0-3,3\n", b"0 1\n"),
        *(b"0-6:2/4\n", b"x\n", b"0\n\n", b"65536\n", b"0-65536\n", b"0-999999\n", "\u0663\n".encode()),
    ],
)
def test_what_is_no_list_of_ascending_ranges_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        cpuset.parse_list(raw)
