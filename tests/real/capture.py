"""Copy a cgroup tree and the /proc files beside it into plain files: ``python -m tests.real.capture``.

``DIR/cgroup/<hierarchy>/...`` holds the cgroups (``DIR/cgroup/...`` where there is one hierarchy, pure v2),
``DIR/proc/...`` what belongs to them. A file that the kernel refuses to read is not in the copy.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from cgwatch.cgroup.controllers import CONTROLLERS
from tests.real.leftovers import cgroup_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PROC = Path("/proc")
KTHREADD = 2
"""Parent of all kernel threads; its network namespace is the host's."""
MACHINE_FILES = (
    *("cgroups", "cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "uptime", "vmstat"),
    *("pressure/cpu", "pressure/io", "pressure/memory", "pressure/irq"),
    *("sys/kernel/osrelease", "1/net/dev", "2/comm"),
)
PROCESS_FILES = ("cgroup", "limits", "net/dev", "stat", "status")
BOOT_ID = "00000000-0000-4000-8000-000000000000\n"
# Half of a tree: what cgroup.procs says again, flags that nobody sets, and what no mainline kernel has.
NOISE = frozenset(
    {
        *("tasks", "cgroup.clone_children", "cgroup.sane_behavior", "notify_on_release", "release_agent"),
        *("freezer.parent_freezing", "freezer.self_freezing"),
        *("cgroup.max.depth", "cgroup.max.descendants", "cgroup.threads", "cpu.weight.nice"),
        *("cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.mem_hardwall", "cpuset.memory_migrate"),
        *("cpuset.memory_pressure", "cpuset.memory_pressure_enabled", "cpuset.memory_spread_page"),
        *("cpuset.memory_spread_slab", "cpuset.sched_load_balance", "cpuset.sched_relax_domain_level"),
        *("memory.kmem.slabinfo", "memory.kmem.tcp.failcnt", "memory.kmem.tcp.limit_in_bytes"),
        *("memory.kmem.tcp.max_usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"),
        *("memory.move_charge_at_immigrate", "memory.shown_ram_in_bytes", "memory.use_hierarchy"),
    }
)
_READ = frozenset(
    file.name for controller in CONTROLLERS for file in (*controller.files_v1, *controller.files_v2)
)
_READ_SOME_DAY = re.compile(
    r"cpuset\.(cpus|mems)(\.effective)?|hugetlb\.\w+\.(current|max|events)|io\.weight|memory\.numa_stat"
)


class Choice(Struct, frozen=True):
    """Which files are copied."""

    of_cgroup: Callable[[str], bool]
    """By name; ``cgroup.controllers`` of the root is always there, as it says what the tree is."""
    of_machine: tuple[str, ...]
    of_process: tuple[str, ...]


ALL = Choice(lambda name: name not in NOISE, MACHINE_FILES, PROCESS_FILES)


def _is_small(name: str) -> bool:
    if name.startswith("memory.swap."):  # a kernel without swap accounting has none of them either
        return False
    return name in _READ or _READ_SOME_DAY.fullmatch(name) is not None


SMALL = Choice(
    _is_small,
    (
        *("cgroups", "cpuinfo", "diskstats", "meminfo", "stat", "sys/kernel/osrelease"),
        *("pressure/cpu", "pressure/io", "pressure/memory", "1/net/dev", "2/comm"),
    ),
    ("net/dev",),
)
"""What a sampler reads, or may want to read; for a tree of many cgroups."""


def capture(out: Path, under: Iterable[str], leave_out: Iterable[str] = (), choice: Choice = ALL) -> None:
    """Copy the cgroups ``under`` these paths, with their ancestors' files, and /proc, into folder ``out``.

    A path may be a pattern, such as ``/system.slice/docker-*.scope``; one that no hierarchy has is no error.
    ``leave_out`` names hierarchies by their folder, such as ``unified``.
    """
    patterns = [path.strip("/") for path in under]
    skipped = set(leave_out)
    mounts = [mount for mount in cgroup_mounts() if mount.name not in skipped]
    pids: set[int] = set()
    for mount in mounts:
        target = out / "cgroup" / (mount.name if len(mounts) > 1 else "")
        for place in sorted(place for pattern in patterns for place in mount.glob(pattern)):
            for parent in PurePosixPath("/", place.relative_to(mount)).parents:
                _copy_cgroup(mount, parent, target, choice)
            for cgroup in _walk(mount, place):
                pids |= _copy_cgroup(mount, cgroup, target, choice)
    _copy_machine(out / "proc", skipped, choice)
    for pid in sorted(pids):
        _copy_process(pid, out / "proc" / str(pid), choice)


def _walk(mount: Path, place: Path) -> Iterator[PurePosixPath]:
    for folder, names, _ in os.walk(place):
        names.sort()
        yield PurePosixPath("/", Path(folder).relative_to(mount))


def _copy_cgroup(mount: Path, cgroup: PurePosixPath, target: Path, choice: Choice) -> set[int]:
    """Copy one cgroup's own files, and give its processes."""
    source = mount / cgroup.relative_to("/")
    for file in sorted(source.iterdir()):
        always = source == mount and file.name == "cgroup.controllers"
        if (always or choice.of_cgroup(file.name)) and file.is_file():
            _copy(file, target / cgroup.relative_to("/") / file.name)
    with contextlib.suppress(OSError):
        return {int(line) for line in (source / "cgroup.procs").read_text().split()}
    return set()  # a threaded cgroup has processes and does not list them


def _copy(source: Path, target: Path) -> None:
    """Copy one kernel file, or leave it out where it is only written or the kernel has no answer."""
    with contextlib.suppress(OSError):  # EINVAL, ENODEV, EOPNOTSUPP; ENOENT and ESRCH for what has just gone
        if not stat.S_IMODE(source.stat().st_mode) & 0o444:
            return
        text = source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)


def _copy_machine(target: Path, skipped: set[str], choice: Choice) -> None:
    for name in choice.of_machine:
        _copy(PROC / name, target / name)
    _copy_network_namespace(KTHREADD, target / str(KTHREADD))
    version = re.sub(r"\(\S+@\S+\)", "(builder@host)", (PROC / "version").read_text())
    (target / "version").write_text(version)
    boot_id = target / "sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True, exist_ok=True)
    boot_id.write_text(BOOT_ID)
    (target / "self").mkdir(exist_ok=True)
    lines = (PROC / "self/mountinfo").read_text().splitlines(keepends=True)
    (target / "self/mountinfo").write_text("".join(line for line in lines if _belongs(line, skipped)))


def _belongs(line: str, skipped: set[str]) -> bool:
    """Tell whether a line of mountinfo is the kernel's business, and not this machine's."""
    point = Path(line.split()[4])
    kernel = point == Path("/") or any(point.is_relative_to(root) for root in ("/proc", "/sys", "/dev"))
    return kernel and not (" - cgroup" in line and point.name in skipped)


def _copy_process(pid: int, target: Path, choice: Choice) -> None:
    for name in choice.of_process:
        _copy(PROC / str(pid) / name, target / name)
    _copy_network_namespace(pid, target)


def _copy_network_namespace(pid: int, target: Path) -> None:
    _copy_namespace(pid, target)


def _copy_namespace(pid: int, target: Path) -> None:
    with contextlib.suppress(OSError):
        namespace = (PROC / str(pid) / "ns/net").readlink()
        (target / "ns").mkdir(parents=True, exist_ok=True)
        (target / "ns/net").symlink_to(namespace)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--under", multiple=True, required=True, metavar="CGROUP", help="A cgroup, such as /docker.")
@click.option("--leave-out", multiple=True, metavar="NAME", help="A hierarchy's folder, such as unified.")
def main(out: Path, under: tuple[str, ...], leave_out: tuple[str, ...]) -> None:
    """Copy cgroups and what /proc says beside them into plain files."""
    capture(out, under, leave_out)


if __name__ == "__main__":
    main()
