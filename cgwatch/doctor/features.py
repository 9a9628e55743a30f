"""Checks of what kernels, boot parameters and schedulers decide about single numbers."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cgwatch.cgroup.controllers import CONTROLLERS, uses_v1
from cgwatch.doctor.affected import phrase
from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.errors import KernelFileError
from cgwatch.metrics.families import FAMILIES
from cgwatch.proc.reading import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey


class Feature(Struct, frozen=True):
    """One row: a number that some kernels do not give."""

    subject: str
    part: str
    """The field of ``Sample`` that holds it. A cgroup without that part says nothing about the feature."""
    get: Callable[[Any], object]
    """The number, from the part; ``None``: not given."""
    files: frozenset[str]
    """Where it comes from, on v2 and v1."""
    consequence: str
    advice: str
    applies: Callable[[Any], bool] = lambda _part: True
    """Whether a cgroup with that part should have the number."""


FEATURES = (
    Feature(
        "swap accounting",
        "memory",
        attrgetter("swap_usage_bytes"),
        frozenset(
            {
                "memory.swap.current",
                "memory.swap.peak",
                "memory.swap.max",
                "memory.swap.high",
                "memory.swap.events",
                "memory.memsw.usage_in_bytes",
                "memory.memsw.limit_in_bytes",
            }
        ),
        "missing: container_memory_swap; container_spec_memory_swap_limit_bytes",
        "boot with swapaccount=1 (before kernel 5.8), or use a kernel with CONFIG_SWAP",
    ),
    Feature(
        "peak memory",
        "memory",
        lambda memory: None if memory.peak_is_sampled else memory.peak_bytes,
        frozenset({"memory.peak"}),
        "container_memory_max_usage_bytes is the highest of cgwatch's samples, without what came and went"
        " between them",
        "use kernel 5.19 or newer, or max_over_time(container_memory_usage_bytes[...])",
    ),
    Feature(
        "kernel memory",
        "memory",
        attrgetter("kernel_usage_bytes"),
        frozenset({"memory.kmem.usage_in_bytes"}),
        "missing: container_memory_kernel_usage",
        "cgroup v2: use kernel 5.18 or newer; v1: boot without cgroup.memory=nokmem",
    ),
    Feature(
        "refaults",
        "memory",
        attrgetter("stat.refaulted_file_pages_total"),
        frozenset(),
        "missing: container_memory_workingset_refault_file_total,"
        " container_memory_workingset_refault_anon_total",
        "use kernel 5.9 or newer",
    ),
    Feature(
        "time on each CPU",
        "cpu",
        attrgetter("usage_seconds_by_cpu"),
        frozenset({"cpuacct.usage_percpu"}),
        'container_cpu_usage_seconds_total has one series for each container, with cpu="total"',
        "",
    ),
    Feature(
        "CPU quota",
        "cpu",
        attrgetter("quota_microseconds"),
        frozenset(
            {
                "cpu.max",
                "cpu.max.burst",
                "cpu.cfs_quota_us",
                "cpu.cfs_period_us",
                "cpu.cfs_burst_us",
            }
        ),
        "missing: container_cpu_cfs_*, container_spec_cpu_quota, container_spec_cpu_period",
        "use a kernel with CONFIG_CFS_BANDWIDTH",
        # Time is accounted without the controller, quotas and weights are not.
        lambda cpu: cpu.weight is not None or cpu.shares is not None,
    ),
)

_PRESSURE_FILES = frozenset({"cpu.pressure", "memory.pressure", "io.pressure"})
EXPLAINED = _PRESSURE_FILES.union(*(feature.files for feature in FEATURES))
"""Files that a check of this module speaks about."""


def features(_host: Host, survey: Survey) -> Iterator[Finding]:
    """Swap accounting, peaks, time by CPU, quotas: the rows of ``FEATURES``."""
    for feature in FEATURES:
        parts = [part for sample in survey.samples if (part := getattr(sample, feature.part)) is not None]
        parts = [part for part in parts if feature.applies(part)]
        lacking = sum(feature.get(part) is None for part in parts)
        if not parts:
            yield ok(feature.subject, f"there is no cgroup to tell by (none with {feature.part} numbers)")
        elif not lacking:
            yield ok(feature.subject, f"given for all {counted(len(parts), 'cgroup')}")
        else:
            yield Finding(
                Level.NOTE,
                feature.subject,
                f"not given for {lacking} of {counted(len(parts), 'cgroup')}"
                + _reasons(feature.files, survey),
                feature.consequence,
                feature.advice,
            )


def _reasons(files: frozenset[str], survey: Survey) -> str:
    found = {
        f"{absence.file.name} {absence.reason}"
        for absence in survey.absences
        if absence.file.name in files
        and absence.reason
        and absence.controller_enabled
        and not absence.is_of_root
    }
    return f": {'; '.join(sorted(found))}" if found else ""


_PRESSURE_METRICS = phrase(family.name for family in FAMILIES if family.group == "pressure")


def pressure(host: Host, survey: Survey) -> Iterator[Finding]:
    """Pressure stall information (Documentation/accounting/psi.rst); /proc/pressure is there if it is on."""
    subject = "pressure (PSI)"
    missing = f"missing: {_PRESSURE_METRICS}"
    if not Path(host.proc_root, "pressure").exists():
        yield _pressure_off(host, survey, subject, missing)
        return
    if survey.hierarchies.unified is None:
        yield Finding(
            Level.WARNING,
            subject,
            "the kernel has it, but only the unified hierarchy shows it, and that is not mounted",
            missing,
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified, so that"
            " runtimes make their cgroups there as well",
        )
        return
    asked = survey.containers or survey.samples
    without = [sample for sample in asked if sample.pressure is None or sample.pressure.cpu is None]
    if not without:
        yield ok(subject, f"given for all {counted(len(asked), 'cgroup')}")
        return
    yield Finding(
        Level.WARNING if survey.containers else Level.NOTE,
        subject,
        f"not given for {len(without)} of {counted(len(asked), 'cgroup')}, such as"
        f" {without[0].container.cgroup.path}{_reasons(_PRESSURE_FILES, survey)}",
        f"missing for them: {_PRESSURE_METRICS}",
        "on a hybrid layout the cgroup must also be in the unified hierarchy (Docker from 20.10 does that);"
        " else write 1 to its cgroup.pressure, and boot without cgroup_disable=pressure",
    )


def _pressure_off(host: Host, survey: Survey, subject: str, missing: str) -> Finding:
    if survey.kernel < (4, 20):
        return Finding(Level.NOTE, subject, "not in this kernel", missing, "use kernel 4.20 or newer")
    try:
        words = read_bytes(f"{host.proc_root}/cmdline").split()
    except KernelFileError:
        words = []
    if b"psi=0" in words:
        return Finding(
            Level.WARNING, subject, "switched off by psi=0", missing, "boot without psi=0 on the command line"
        )
    return Finding(
        Level.WARNING,
        subject,
        f"off: there is no {host.proc_root}/pressure",
        missing,
        "boot with psi=1 on the kernel's command line; if that does not help, the kernel has no CONFIG_PSI",
    )


_BLOCK_IO = next(controller for controller in CONTROLLERS if controller.name == "io")
_LAZY_SINCE = (6, 9)
_PSEUDO = ("loop", "ram", "zram")


def block_io(host: Host, survey: Survey) -> Iterator[Finding]:
    """v1: who counts block I/O. From 6.9 on the throttle layer counts a device only after its first rule."""
    subject = "block I/O"
    if not uses_v1(_BLOCK_IO, survey.hierarchies):
        yield ok(subject, "counted by cgroup v2 on every device")
        return
    if survey.kernel < _LAZY_SINCE:
        yield ok(subject, "counted by the throttle layer on every device")
        return
    counting = {
        f"{device.major}:{device.minor}"
        for sample in survey.snapshot.samples
        if sample.io
        for device in sample.io.devices or ()
    }
    silent = [
        (name, numbers)
        for name, numbers, scheduler in _used_disks(host.sys_root)
        if numbers not in counting and scheduler != "bfq"
    ]
    if not silent:
        yield ok(subject, "counted on every device in use")
        return
    names = ", ".join(name for name, _ in silent)
    first, numbers = silent[0]
    yield Finding(
        Level.WARNING,
        subject,
        f"not counted on {names}: from kernel 6.9 on cgroup v1 counts a device only under the BFQ scheduler,"
        " or once any throttle rule was written for it",
        "missing for these devices: "
        + phrase(family.name for family in FAMILIES if family.group == "diskIO"),
        f"write one rule that never bites: docker run --device-write-bps /dev/{first}:1tb ..., or echo"
        f' "{numbers} 1099511627776" > blkio.throttle.write_bps_device of any cgroup; or echo bfq >'
        f" /sys/block/{first}/queue/scheduler; or boot into cgroup v2",
    )


def _used_disks(sys_root: str) -> Iterator[tuple[str, str, str]]:
    """Give name, device numbers and scheduler of each disk that was used (Documentation/block/stat.rst)."""
    for directory in sorted(Path(sys_root, "block").glob("*")):
        if directory.name.startswith(_PSEUDO):
            continue
        try:
            numbers = (directory / "dev").read_text("ascii").strip()
            did_something = any(word != "0" for word in (directory / "stat").read_text("ascii").split())
        except (OSError, ValueError):
            continue  # the disk has just gone
        if did_something:
            yield directory.name, numbers, _scheduler(directory)


def _scheduler(directory: Path) -> str:
    try:
        text = (directory / "queue/scheduler").read_text("ascii")
    except (OSError, ValueError):
        return ""
    return text.partition("[")[2].partition("]")[0]
