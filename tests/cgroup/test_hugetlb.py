from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from cgwatch.cgroup import hugetlb
from cgwatch.cgroup.files import Descriptors, Fault, File, Reader
from cgwatch.cgroup.hugetlb import HugePages

SIZES = ("2MB", "1GB")
LARGEST_OF_2MB = 9223372036852678656  # read on Linux 6.1: the largest multiple of 2 MiB in 63 bits

# What Linux 6.1 said on each version of a process that reserved 3 pages of 2 MiB, touched 2 of them, and was
# refused 3 more.
V2 = {
    "hugetlb.2MB.current": "4194304\n",
    "hugetlb.2MB.events": "max 3\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.rsvd.current": "6291456\n",
    "hugetlb.2MB.rsvd.max": "6291456\n",
}
V1 = {
    "hugetlb.2MB.failcnt": "0\n",
    "hugetlb.2MB.limit_in_bytes": f"{LARGEST_OF_2MB}\n",
    "hugetlb.2MB.max_usage_in_bytes": "4194304\n",
    "hugetlb.2MB.rsvd.failcnt": "3\n",
    "hugetlb.2MB.rsvd.limit_in_bytes": "6291456\n",
    "hugetlb.2MB.rsvd.max_usage_in_bytes": "6291456\n",
    "hugetlb.2MB.rsvd.usage_in_bytes": "6291456\n",
    "hugetlb.2MB.usage_in_bytes": "4194304\n",
}


def read(directory: Path, texts: dict[str, str], files: tuple[File, ...], stats: Any) -> HugePages:
    for name, text in texts.items():
        (directory / name).write_text(text)
    reader = Reader(files, stats, lambda file: os.fspath(directory / file.name), Descriptors(100))
    faults: list[Fault] = []
    (pages,) = reader.read(faults).pages
    reader.close()
    assert faults == []
    assert isinstance(pages, HugePages)
    return pages


def read_v2(directory: Path, texts: dict[str, str]) -> HugePages:
    return read(directory, texts, hugetlb.files_v2(("2MB",)), hugetlb.stats_v2(("2MB",)))


def read_v1(directory: Path, texts: dict[str, str]) -> HugePages:
    return read(directory, texts, hugetlb.files_v1(("2MB",)), hugetlb.stats_v1(("2MB",)))


def before_reservations(texts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if ".rsvd." not in name}


def test_usage_is_what_is_reserved_or_in_use(tmp_path: Path) -> None:
    assert read_v2(tmp_path, V2) == HugePages("2MB", 6291456, None, 3, 6291456)
    assert read_v1(tmp_path, V1) == HugePages("2MB", 6291456, 6291456, 3, 6291456)


def test_before_kernel_5_7_it_is_what_is_in_use(tmp_path: Path) -> None:
    v1, v2 = tmp_path / "v1", tmp_path / "v2"
    v1.mkdir()
    v2.mkdir()

    assert read_v2(v2, before_reservations(V2)) == HugePages("2MB", 4194304, None, 3, math.inf)
    assert read_v1(v1, before_reservations(V1)) == HugePages("2MB", 4194304, 4194304, 0, math.inf)


def test_refusals_of_v1_are_those_of_both_counters_as_in_the_event_of_v2(tmp_path: Path) -> None:
    assert read_v1(tmp_path, V1 | {"hugetlb.2MB.failcnt": "4\n"}).refused_total == 7


def test_the_limit_is_the_one_that_bites_first(tmp_path: Path) -> None:
    assert read_v2(tmp_path, V2 | {"hugetlb.2MB.max": "2097152\n"}).limit_bytes == 2097152


def test_each_size_has_its_own_numbers() -> None:
    values = [file.parse(V2[file.name].encode()) for file in hugetlb.files_v2(("2MB",))]

    found = hugetlb.stats_v2(SIZES)(*([None] * len(values)), *values)

    assert found.pages == (HugePages("2MB"), HugePages("1GB", 6291456, None, 3, 6291456))


def test_the_sizes_are_the_machines_and_spelled_as_in_the_files_names(tmp_path: Path) -> None:
    for kibibytes in (64, 2048, 524288, 1048576, 16777216):
        (tmp_path / f"kernel/mm/hugepages/hugepages-{kibibytes}kB").mkdir(parents=True)
    (tmp_path / "kernel/mm/hugepages/other").mkdir()

    assert hugetlb.page_sizes(str(tmp_path)) == ("64KB", "2MB", "512MB", "1GB", "16GB")


def test_a_kernel_without_huge_pages_has_no_size_and_no_file(tmp_path: Path) -> None:
    assert hugetlb.page_sizes(str(tmp_path)) == ()
    assert hugetlb.files_v2(()) == hugetlb.files_v1(()) == ()
    assert hugetlb.mark(()) == ""


@pytest.mark.parametrize("size", SIZES)
def test_the_mark_is_a_file_that_is_there_on_every_kernel(size: str) -> None:
    (file,) = [file for file in hugetlb.files_v2((size,)) if file.name == hugetlb.mark((size,))]

    assert file.since == (5, 6)
