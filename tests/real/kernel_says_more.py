"""What the page says of a container beyond cAdvisor's families; as ``kernel_says``, from the files alone."""

from __future__ import annotations

from pathlib import Path

from tests.real.kernel_says import (
    MICROSECONDS,
    NANOSECONDS,
    Says,
    device_path,
    file_of,
    hierarchies,
    is_v1,
    keyed,
    operations,
    plain,
)

SECTOR_BYTES = 512
MEMORY_STAT_V2 = {
    "shmem": "shmem",
    "unevictable": "unevictable",
    "slab_reclaimable": "slab_reclaimable",
    "slab_unreclaimable": "slab_unreclaimable",
    "sock": "sock",
    "kernel_stack": "kernel_stack",
    "page_tables": "pagetables",
    "percpu": "percpu",
    "zswap": "zswap",
    "zswapped": "zswapped",
}
MEMORY_STAT_V1 = {"shmem": "total_shmem", "unevictable": "total_unevictable"}


def kernel_says_more(cgroup: str) -> Says:
    """Read every series of the groups that are on by default and that ``kernel_says`` leaves out."""
    said = _pids(cgroup) | _core(cgroup) | _cpu(cgroup) | _irq(cgroup)
    if is_v1():
        return said | _memory_v1(cgroup) | _io_v1(cgroup)
    if file_of("memory", cgroup, "memory.current").exists():
        said |= _memory_v2(cgroup)
    if file_of("io", cgroup, "io.stat").exists():
        said |= _io_v2(cgroup)
    return said


def _number(path: Path) -> int:
    return int(path.read_text())


def _pids(cgroup: str) -> Says:
    said: Says = {
        plain("container_pids_current"): _number(file_of("pids", cgroup, "pids.current")),
        plain("container_pids_limit_hits_total"): keyed(file_of("pids", cgroup, "pids.events"))["max"],
    }
    peak = file_of("pids", cgroup, "pids.peak")
    if peak.exists():  # since 6.1
        said[plain("container_pids_peak")] = _number(peak)
    limit = file_of("pids", cgroup, "pids.max").read_text().strip()
    return said if limit == "max" else said | {plain("container_spec_pids_limit"): int(limit)}


def _core(cgroup: str) -> Says:
    directory = hierarchies()["unified"] / cgroup.lstrip("/")
    if not directory.exists():
        return {}
    stat, events = keyed(directory / "cgroup.stat"), keyed(directory / "cgroup.events")
    return {
        plain("container_cgroup_descendants"): stat["nr_descendants"],
        plain("container_cgroup_dying_descendants"): stat["nr_dying_descendants"],
        plain("container_cgroup_populated"): events["populated"],
        plain("container_cgroup_frozen"): events["frozen"],
    }


def _cpu(cgroup: str) -> Says:
    said: Says = {}
    local = file_of("cpu", cgroup, "cpu.stat.local")
    if local.exists():
        for key, unit in (("throttled_usec", MICROSECONDS), ("throttled_time", NANOSECONDS)):
            if key in keyed(local):
                said[plain("container_cpu_local_throttled_seconds_total")] = keyed(local)[key] / unit
    for name in ("weight", "idle"):
        file = file_of("cpu", cgroup, f"cpu.{name}")
        if file.exists():
            said[plain(f"container_spec_cpu_{name}")] = _number(file)
    return said


def _docker_usage(usage: int, inactive: int) -> Says:
    return {plain("container_memory_docker_usage_bytes"): usage - inactive if inactive < usage else usage}


def _memory_v1(cgroup: str) -> Says:
    stat = keyed(file_of("memory", cgroup, "memory.stat"))
    usage = _number(file_of("memory", cgroup, "memory.usage_in_bytes"))
    kills = keyed(file_of("memory", cgroup, "memory.oom_control"))["oom_kill"]
    return {
        **_docker_usage(usage, stat["total_inactive_file"]),
        plain("container_memory_events_oom_kill_total"): kills,
        **{
            plain(f"container_memory_{name}_bytes"): stat[key]
            for name, key in MEMORY_STAT_V1.items()
            if key in stat
        },
    }


def _memory_v2(cgroup: str) -> Says:
    def bound(name: str) -> str:
        return _bound(cgroup, name)

    stat = keyed(file_of("memory", cgroup, "memory.stat"))
    said = _docker_usage(_number(file_of("memory", cgroup, "memory.current")), stat["inactive_file"])
    for name, key in MEMORY_STAT_V2.items():
        if key in stat:
            said[plain(f"container_memory_{name}_bytes")] = stat[key]
    events = keyed(file_of("memory", cgroup, "memory.events"))
    for name in ("oom", "oom_kill", "oom_group_kill"):
        if name in events:  # the last since 5.17
            said[plain(f"container_memory_events_{name}_total")] = events[name]
    if events["low"] or bound("memory.low") != "0":
        said[plain("container_memory_events_low_total")] = events["low"]
    said |= _swap_events(cgroup)
    for name, file, none in (
        ("memory_high_bytes", "memory.high", "max"),
        ("memory_low_bytes", "memory.low", "0"),
        ("memory_min_bytes", "memory.min", "0"),
        ("memory_swap_high_bytes", "memory.swap.high", "max"),
    ):
        if bound(file) not in ("", none):
            said[plain(f"container_spec_{name}")] = int(bound(file))
    return said | {plain("container_spec_memory_oom_group"): int(bound("memory.oom.group"))}


def _bound(cgroup: str, name: str) -> str:
    file = file_of("memory", cgroup, name)
    return file.read_text().strip() if file.exists() else ""


def _swap_events(cgroup: str) -> Says:
    file = file_of("memory", cgroup, "memory.swap.events")
    if not file.exists():
        return {}
    counts = keyed(file)
    said: Says = {plain("container_memory_swap_events_fail_total"): counts["fail"]}
    for name in ("high", "max"):
        if counts[name] or _bound(cgroup, f"memory.swap.{name}") != "max":
            said[plain(f"container_memory_swap_events_{name}_total")] = counts[name]
    return said


def _on(numbers: str) -> frozenset[tuple[str, str]]:
    return frozenset({("device", device_path(numbers))})


def _device(numbers: str, moved: dict[str, int], requests: dict[str, int]) -> Says:
    device = _on(numbers)
    return {
        ("container_fs_sector_reads_total", device): moved["Read"] // SECTOR_BYTES,
        ("container_fs_sector_writes_total", device): moved["Write"] // SECTOR_BYTES,
        ("container_fs_discarded_bytes_total", device): moved["Discard"],
        ("container_fs_discards_total", device): requests["Discard"],
    }


def _io_v1(cgroup: str) -> Says:
    moved, requests = (
        operations(file_of("blkio", cgroup, f"blkio.throttle.{name}_recursive"))
        for name in ("io_service_bytes", "io_serviced")
    )
    said = _io_weight(file_of("blkio", cgroup, "blkio.bfq.weight"))
    for name, word in (
        ("read_bps", "read_bytes"),
        ("write_bps", "write_bytes"),
        ("read_iops", "reads"),
        ("write_iops", "writes"),
    ):
        for line in file_of("blkio", cgroup, f"blkio.throttle.{name}_device").read_text().splitlines():
            numbers, bound = line.split()
            said[f"container_spec_io_{word}_per_second", _on(numbers)] = int(bound)
    for numbers in moved:
        said |= _device(numbers, moved[numbers], requests[numbers])
    return said


def _io_v2(cgroup: str) -> Says:
    weights = (file_of("io", cgroup, name) for name in ("io.weight", "io.bfq.weight"))
    said = _io_weight(next((file for file in weights if file.exists()), Path("/nonexistent")))
    bounds = file_of("io", cgroup, "io.max")
    for line in bounds.read_text().splitlines() if bounds.exists() else ():
        numbers, *pairs = line.split()
        for key, bound in (pair.split("=") for pair in pairs):
            word = {"rbps": "read_bytes", "wbps": "write_bytes", "riops": "reads", "wiops": "writes"}[key]
            if bound != "max":
                said[f"container_spec_io_{word}_per_second", _on(numbers)] = int(bound)
    for line in file_of("io", cgroup, "io.stat").read_text().splitlines():
        numbers, *pairs = line.split()
        if pairs:
            stat = {key: int(value) for key, value in (pair.split("=") for pair in pairs)}
            moved = {"Read": stat["rbytes"], "Write": stat["wbytes"], "Discard": stat["dbytes"]}
            said |= _device(numbers, moved, {"Discard": stat["dios"]})
    return said


def _io_weight(file: Path) -> Says:
    return {plain("container_spec_io_weight"): int(file.read_text().split()[-1])} if file.exists() else {}


def _irq(cgroup: str) -> Says:
    file = hierarchies()["unified"] / cgroup.lstrip("/") / "irq.pressure"
    try:
        total = file.read_text().split("total=")[1]
    except OSError:
        return {}  # another kernel, or one that does not account it
    return {plain("container_pressure_irq_stalled_seconds_total"): int(total) / MICROSECONDS}
