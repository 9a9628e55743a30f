"""Huge pages, CPU sets, memory nodes and the cost of I/O on real kernels.

cgroup v1 as this machine has it; v2 on a whole Debian kernel in QEMU, as User Mode Linux lacks all of these.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hugetlb import HugePages
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.real.needs import require
from tests.real.qemu import qemu_available, run_in_qemu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample
    from tests.conftest import V1Cgroups

pytestmark = pytest.mark.real

IN_QEMU = "CGWATCH_TEST_IN_QEMU"
ROOT = Path("/sys/fs/cgroup")
DISK = Path("/run/disk")
PARTS = frozenset({"cpuset", "hugetlb", "numa", "disks", "io.details"})
HUGE = 2 << 20
RESERVED, TOUCHED, REFUSED = 3, 2, 4


def sampled(path: str) -> tuple[Sample, Sample]:
    """Sample everything; give the root and one cgroup. No file may be missing without a reason."""
    failures: list[KernelFileError] = []
    sampler = Sampler(
        hierarchy.find("/proc", None),
        proc_root="/proc",
        descriptors=Descriptors(10_000),
        plan=Plan(parts=PARTS),
        clock=time.time,
        monotonic=time.monotonic,
        failed=failures.append,
    )
    samples = {sample.container.cgroup.path: sample for sample in sampler.sample(0).samples}
    sampler.close()
    assert [failure for failure in failures if path in failure.path] == []
    return samples["/"], samples[path]


HOLD = "import os; held = b'x' * (1 << 20); os.write(1, b'+'); os.read(0, 1)"


def test_v1_tells_cpus_memory_nodes_and_the_memory_on_each(v1_cgroups: V1Cgroups) -> None:
    memory, cpuset = v1_cgroups.make(), v1_cgroups.make(controller="cpuset")
    for name in ("cpus", "mems"):
        (cpuset / f"cpuset.{name}").write_text("0")
    (cpuset / "cpuset.memory_migrate").write_text("1")
    # It has written to its memory when it says so, in these cgroups.
    process = v1_cgroups.start(memory, cpuset, command=(sys.executable, "-S", "-c", HOLD))
    assert process.stdout is not None
    assert process.stdout.read(1) == b"+"

    root, sample = sampled(f"/{v1_cgroups.name}")

    assert root.cpuset is not None
    assert root.cpuset.cpus == os.cpu_count()
    assert sample.cpuset is not None
    assert (sample.cpuset.cpus, sample.cpuset.memory_nodes, sample.cpuset.memory_migrate) == (1, 1, True)
    if (memory / "memory.numa_stat").exists():
        assert sample.numa is not None
        assert root.numa is not None
        mine, all_of_it = (
            sum([each.pages for each in numa.hierarchical]) for numa in (sample.numa, root.numa)
        )
        assert 0 < mine < all_of_it


# On v2.


@pytest.mark.timeout(420)
def test_a_whole_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    if IN_QEMU in os.environ:
        pytest.skip("this is the kernel that is tested")
    require(qemu_available())
    done = run_in_qemu(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/sampling/test_optional_real.py",
        ],
        environment={IN_QEMU: "1"},
    )
    assert done.status == 0, done.output
    assert "4 passed" in done.output


@pytest.fixture
def mine() -> Iterator[Path]:
    """Give a cgroup of this test."""
    if IN_QEMU not in os.environ:
        pytest.skip("runs in QEMU, see test_a_whole_kernel_with_cgroup_v2_keeps_these_promises")
    directory = ROOT / "cgwtest-optional"
    directory.mkdir()
    yield directory
    directory.rmdir()


def run_in(cgroup: Path, code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Run Python code in the cgroup until it says that it is ready; it ends with its standard input."""
    moved = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n"
    wait = "\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", moved + code + wait, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


MAP = f"""
import mmap
held = []
for number in range({RESERVED + REFUSED}):
    try:
        pages = mmap.mmap(-1, {HUGE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
    except OSError:
        continue
    if number < {TOUCHED}:
        pages[0] = 1
    held.append(pages)
"""


def end(process: subprocess.Popen[bytes], cgroup: Path) -> None:
    process.communicate()
    deadline_seconds = time.monotonic() + 30
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        assert time.monotonic() < deadline_seconds
        time.sleep(0.01)


def test_huge_pages_are_those_that_are_reserved_and_refusals_are_counted(mine: Path) -> None:
    Path("/proc/sys/vm/nr_hugepages").write_text("16")
    (mine / "hugetlb.2MB.rsvd.max").write_text(str(RESERVED * HUGE))
    process = run_in(mine, MAP)
    try:
        root, sample = sampled("/cgwtest-optional")
    finally:
        end(process, mine)

    assert root.hugetlb is None
    assert sample.hugetlb is not None
    assert sample.hugetlb.pages[0] == HugePages("2MB", RESERVED * HUGE, None, REFUSED, RESERVED * HUGE)


def test_the_cpus_that_are_left_are_told(mine: Path) -> None:
    (mine / "cpuset.cpus").write_text("1")

    root, sample = sampled("/cgwtest-optional")

    assert root.cpuset is not None
    assert (root.cpuset.cpus, root.cpuset.memory_nodes) == (2, 1)
    assert sample.cpuset is not None
    assert (sample.cpuset.cpus, sample.cpuset.memory_nodes, sample.cpuset.memory_migrate) == (1, 1, None)


def test_memory_on_a_node_is_in_pages(mine: Path) -> None:
    process = run_in(mine, f"held = b'x' * {HUGE}")
    try:
        _, sample = sampled("/cgwtest-optional")
    finally:
        end(process, mine)

    assert sample.numa is not None
    assert sample.numa.own == ()
    (anonymous,) = [each for each in sample.numa.hierarchical if each.kind == "anon"]
    assert HUGE / mmap.PAGESIZE <= anonymous.pages < 16 * HUGE / mmap.PAGESIZE


def test_the_cost_of_io_is_told_where_io_cost_is_on(mine: Path) -> None:
    number = (ROOT / "io.stat").read_text().split()[0]
    (ROOT / "io.cost.qos").write_text(f"{number} enable=1")
    Path("/sys/module/blk_cgroup/parameters/blkcg_debug_stats").write_text("1")
    write = f"with open({str(DISK / 'written')!r}, 'wb') as file:\n    file.write(b'x' * {HUGE})\n"
    process = run_in(mine, f"{write}    file.flush()\n    import os\n    os.fsync(file.fileno())")
    deadline_seconds = time.monotonic() + 30
    try:
        while not all(map(_charge, sampled("/cgwtest-optional"))):  # it is charged at the end of a period
            assert time.monotonic() < deadline_seconds
            time.sleep(0.01)
    finally:
        end(process, mine)


def _charge(sample: Sample) -> float:
    assert sample.io is not None
    (device,) = sample.io.devices or ()
    assert device.cost_usage_seconds is not None
    assert device.cost_wait_seconds is not None
    assert device.cost_usage_seconds < 60
    return device.cost_usage_seconds
