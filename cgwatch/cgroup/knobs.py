"""Everything that can be limited: one row for each kernel limit, on v2 and v1. Pure.

The canonical name of a limit is that of its cgroup v2 file, also where v1 is what there is. A file that holds
several numbers has a row for each: ``io.max.rbps[8:0]``, ``cpu.max.period``. What v1 alone has goes by v1's
own name (``cpu.shares``, ``blkio.weight``): weights are kept as the kernel keeps them and never converted
back and forth, since the formulas between the versions lose which number it was.

v2: Documentation/admin-guide/cgroup-v2.rst. v1: Documentation/admin-guide/cgroup-v1/*.rst and
Documentation/scheduler/sched-bwc.rst. Ranges and defaults are the kernel's, each as it was seen to answer;
``most`` of a quota is ``max_bw_runtime_us`` (kernel/sched/core.c), of operations the 32 bits that
block/blk-throttle.c keeps. ``cgroup.knob_values`` reads and writes values as people do,
``cgroup.limit_text`` as the kernel does.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping

from msgspec import structs

from cgwatch.cgroup.knob import V2, Combine, How, Knob, Per, Place, Rounding, Said, Unit, Value
from cgwatch.cgroup.shares import (
    DEFAULT_SHARES,
    DEFAULT_WEIGHT,
    LEAST_SHARES,
    LEAST_WEIGHT,
    MOST_SHARES,
    MOST_WEIGHT,
)
from cgwatch.errors import UnknownLimitError

__all__ = ["KNOBS", "Value", "knob_of", "knob_of_flag", "near_names"]

LEAST_QUOTA_MICROSECONDS = 1000
MOST_QUOTA_MICROSECONDS = 2**44 - 1
DEFAULT_PERIOD_MICROSECONDS = 100_000
MOST_PERIOD_MICROSECONDS = 1_000_000
MOST_TASKS = 4_194_304
"""``PID_MAX_LIMIT`` of a 64-bit kernel."""
LEAST_BOUND = 2
"""Of bytes or operations on a device: io.max takes no 1 (block/blk-throttle.c, tg_set_limit)."""
MOST_OPERATIONS = 2**32 - 2
"""2^32 - 1 means no limit."""

_SWAP_ACCOUNTING = "swap accounting (CONFIG_SWAP; swapaccount=1 before 5.8)"
_BANDWIDTH = "CPU bandwidth control (CONFIG_CFS_BANDWIDTH)"
_THROTTLE = "block throttling (CONFIG_BLK_DEV_THROTTLING)"
_IOCOST = "the io.cost controller (CONFIG_BLK_CGROUP_IOCOST)"
_BFQ = "the BFQ I/O scheduler (CONFIG_BFQ_GROUP_IOSCHED)"
_CFQ = "the CFQ I/O scheduler (before 5.0)"

_PROTECTION = "cgroup v1 has no protection from reclaim; memory.soft_limit_in_bytes is the nearest to it"


def _memory(name: str, *, since: tuple[int, int] = (4, 5), needs: str = "") -> Place:
    return Place("memory", f"memory.{name}", since=since, needs=needs)


def _unified(name: str) -> Said:
    return Said(f"unified[{name}]", How.UNIFIED)


_MEMORY = (
    Knob(
        "memory.max",
        "memory",
        Unit.BYTES,
        v2=_memory("max"),
        v1=Place("memory", "memory.limit_in_bytes"),
        rounding=Rounding.PAGE,
        coupled=("memory.swap.max", "memory.high", "memory.low", "memory.min"),
        docker=Said("Memory"),
        cri=Said("memory_limit_in_bytes"),
        systemd=Said("MemoryMax"),
        flags=("--memory",),
    ),
    Knob(
        "memory.high",
        "memory",
        Unit.BYTES,
        v2=_memory("high"),
        absent="cgroup v1 cannot throttle before the limit; lower memory.max instead",
        rounding=Rounding.PAGE,
        coupled=("memory.max", "memory.low", "memory.min"),
        cri=_unified("memory.high"),
        systemd=Said("MemoryHigh"),
    ),
    Knob(
        "memory.low",
        "memory",
        Unit.BYTES,
        v2=_memory("low"),
        absent=_PROTECTION,
        default=0,
        rounding=Rounding.PAGE,
        coupled=("memory.max", "memory.high", "memory.min"),
        docker=Said("MemoryReservation"),
        cri=_unified("memory.low"),
        systemd=Said("MemoryLow"),
        flags=("--memory-reservation",),
    ),
    Knob(
        "memory.min",
        "memory",
        Unit.BYTES,
        v2=_memory("min", since=(4, 18)),
        absent=_PROTECTION,
        default=0,
        rounding=Rounding.PAGE,
        coupled=("memory.max", "memory.high", "memory.low"),
        cri=_unified("memory.min"),
        systemd=Said("MemoryMin"),
    ),
    Knob(
        "memory.soft_limit_in_bytes",
        "memory",
        Unit.BYTES,
        v1=Place("memory", "memory.soft_limit_in_bytes", needs="a kernel without CONFIG_PREEMPT_RT"),
        absent="cgroup v2 has no soft limit: memory.low protects, memory.high throttles",
        rounding=Rounding.PAGE,
        combine=Combine.NONE,
        docker=Said("MemoryReservation"),
        flags=("--memory-reservation",),
    ),
    Knob(
        "memory.swap.max",
        "memory",
        Unit.BYTES,
        v2=_memory("swap.max", needs=_SWAP_ACCOUNTING),
        v1=Place(
            "memory",
            "memory.memsw.limit_in_bytes",
            needs=_SWAP_ACCOUNTING,
            above_file="memory.limit_in_bytes",
        ),
        rounding=Rounding.PAGE,
        coupled=("memory.max",),
        docker=Said("MemorySwap", How.PLUS_MEMORY),
        cri=Said("memory_swap_limit_in_bytes", How.PLUS_MEMORY),
        systemd=Said("MemorySwapMax"),
        flags=("--memory-swap",),
    ),
    Knob(
        "memory.swap.high",
        "memory",
        Unit.BYTES,
        v2=_memory("swap.high", since=(5, 8), needs=_SWAP_ACCOUNTING),
        absent="cgroup v1 cannot throttle by swap; limit memory.swap.max instead",
        rounding=Rounding.PAGE,
        cri=_unified("memory.swap.high"),
    ),
    Knob(
        "memory.oom.group",
        "memory",
        Unit.SWITCH,
        v2=_memory("oom.group", since=(4, 19)),
        absent="cgroup v1 always kills one process",
        most=1,
        unlimited=False,
        default=0,
        combine=Combine.NONE,
        cri=_unified("memory.oom.group"),
    ),
)

_CPU = (
    Knob(
        "cpu.max",
        "cpu",
        Unit.MICROSECONDS,
        v2=Place("cpu", "cpu.max", "quota", since=(4, 15), needs=_BANDWIDTH),
        v1=Place("cpu", "cpu.cfs_quota_us", needs=_BANDWIDTH),
        least=LEAST_QUOTA_MICROSECONDS,
        most=MOST_QUOTA_MICROSECONDS,
        combine=Combine.RATIO,
        coupled=("cpu.max.period", "cpu.max.burst"),
        docker=Said("CpuQuota"),
        cri=Said("cpu_quota"),
        systemd=Said("CPUQuotaPerSecUSec", How.PER_SECOND),
        flags=("--cpu-quota", "--cpus"),
    ),
    Knob(
        "cpu.max.period",
        "cpu",
        Unit.MICROSECONDS,
        v2=Place("cpu", "cpu.max", "period", since=(4, 15), needs=_BANDWIDTH),
        v1=Place("cpu", "cpu.cfs_period_us", needs=_BANDWIDTH),
        least=1000,
        most=MOST_PERIOD_MICROSECONDS,
        unlimited=False,
        default=DEFAULT_PERIOD_MICROSECONDS,
        combine=Combine.NONE,
        coupled=("cpu.max",),
        docker=Said("CpuPeriod"),
        cri=Said("cpu_period"),
        systemd=Said("CPUQuotaPeriodUSec"),
        flags=("--cpu-period",),
    ),
    Knob(
        "cpu.max.burst",
        "cpu",
        Unit.MICROSECONDS,
        v2=Place("cpu", "cpu.max.burst", since=(5, 14), needs=_BANDWIDTH),
        v1=Place("cpu", "cpu.cfs_burst_us", since=(5, 14), needs=_BANDWIDTH),
        most=MOST_QUOTA_MICROSECONDS,
        unlimited=False,
        default=0,
        combine=Combine.NONE,
        coupled=("cpu.max",),
        cri=_unified("cpu.max.burst"),
    ),
    Knob(
        "cpu.weight",
        "cpu",
        Unit.WEIGHT,
        v2=Place("cpu", "cpu.weight", since=(4, 15)),
        absent="cgroup v1 has cpu.shares instead",
        least=LEAST_WEIGHT,
        most=MOST_WEIGHT,
        unlimited=False,
        default=DEFAULT_WEIGHT,
        combine=Combine.NONE,
        coupled=("cpu.idle",),
        docker=Said("CpuShares", How.SHARES),
        cri=Said("cpu_shares", How.SHARES),
        systemd=Said("CPUWeight"),
    ),
    Knob(
        "cpu.shares",
        "cpu",
        Unit.WEIGHT,
        v1=Place("cpu", "cpu.shares"),
        absent="cgroup v2 has cpu.weight instead",
        least=LEAST_SHARES,
        most=MOST_SHARES,
        unlimited=False,
        default=DEFAULT_SHARES,
        combine=Combine.NONE,
        coupled=("cpu.idle",),
        docker=Said("CpuShares"),
        cri=Said("cpu_shares"),
        systemd=Said("CPUShares"),
        flags=("--cpu-shares",),
    ),
    Knob(
        "cpu.idle",
        "cpu",
        Unit.SWITCH,
        v2=Place("cpu", "cpu.idle", since=(5, 15)),
        v1=Place("cpu", "cpu.idle", since=(5, 15)),
        most=1,
        unlimited=False,
        default=0,
        combine=Combine.NONE,
        coupled=("cpu.weight", "cpu.shares"),
        cri=_unified("cpu.idle"),
    ),
)

_CPUSET = tuple(
    Knob(
        f"cpuset.{name}",
        "cpuset",
        Unit.NUMBERS,
        v2=Place("cpuset", f"cpuset.{name}", since=(5, 0)),
        v1=Place("cpuset", f"cpuset.{name}"),
        unlimited=False,
        default="",
        combine=Combine.INTERSECTION,
        docker=Said(f"Cpuset{name.capitalize()}"),
        cri=Said(f"cpuset_{name}"),
        systemd=Said(said, How.MASK),
        flags=(f"--cpuset-{name}",),
    )
    for name, said in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes"))
)


def _io_max(word: str, v1_file: str, systemd: str, flag: str) -> Knob:
    is_bytes = word.endswith("bps")
    return Knob(
        f"io.max.{word}[DEVICE]",
        "io",
        Unit.BYTES_PER_SECOND if is_bytes else Unit.OPERATIONS_PER_SECOND,
        v2=Place("io", "io.max", word, since=(4, 5), needs=_THROTTLE),
        v1=Place("blkio", f"blkio.throttle.{v1_file}_device", needs=_THROTTLE),
        least=LEAST_BOUND,
        most=2**63 - 1 if is_bytes else MOST_OPERATIONS,
        per=Per.DEVICE,
        cri=_unified("io.max"),
        systemd=Said(systemd, How.DEVICES),
        flags=(flag,),
    )


def _io_weight(key: str, needs: str, *, version: int, least: int, most: int, default: int) -> Knob:
    is_v2 = version > 1
    controller = "io" if is_v2 else "blkio"
    place = Place(controller, key, needs=needs)
    return Knob(
        key,
        "io",
        Unit.WEIGHT,
        v2=place if is_v2 else None,
        v1=None if is_v2 else place,
        absent=f"cgroup v{3 - version} has {'blkio' if is_v2 else 'io'}.{key.partition('.')[2]} instead",
        least=least,
        most=most,
        unlimited=False,
        default=default,
        combine=Combine.NONE,
        # Of a v1 kernel with BFQ Docker believes that it has no weights, and discards them.
        docker=None if key == "blkio.bfq.weight" else Said("BlkioWeight", How.BLKIO_WEIGHT),
        systemd=Said("IOWeight") if is_v2 else Said("BlockIOWeight"),
        flags=("--blkio-weight",),
    )


_IO = (
    _io_max("rbps", "read_bps", "IOReadBandwidthMax", "--device-read-bps"),
    _io_max("wbps", "write_bps", "IOWriteBandwidthMax", "--device-write-bps"),
    _io_max("riops", "read_iops", "IOReadIOPSMax", "--device-read-iops"),
    _io_max("wiops", "write_iops", "IOWriteIOPSMax", "--device-write-iops"),
    _io_weight("io.weight", _IOCOST, version=2, least=1, most=10000, default=100),
    _io_weight("io.bfq.weight", _BFQ, version=2, least=1, most=1000, default=100),
    _io_weight("blkio.bfq.weight", _BFQ, version=1, least=1, most=1000, default=100),
    _io_weight("blkio.weight", _CFQ, version=1, least=10, most=1000, default=500),
)


def _hugetlb(infix: str, since: tuple[int, int]) -> Knob:
    return Knob(
        f"hugetlb.SIZE{infix}.max",
        "hugetlb",
        Unit.BYTES,
        v2=Place("hugetlb", f"hugetlb.SIZE{infix}.max", since=max(since, (5, 6))),
        v1=Place("hugetlb", f"hugetlb.SIZE{infix}.limit_in_bytes", since=since),
        rounding=Rounding.HUGE_PAGE,
        per=Per.SIZE,
        cri=Said("hugepage_limits", How.SIZES),
    )


KNOBS: tuple[Knob, ...] = (
    *_MEMORY,
    *_CPU,
    *_CPUSET,
    *_IO,
    Knob(
        "pids.max",
        "pids",
        Unit.COUNT,
        v2=Place("pids", "pids.max"),
        v1=Place("pids", "pids.max"),
        most=MOST_TASKS,
        docker=Said("PidsLimit"),
        systemd=Said("TasksMax"),
        flags=("--pids-limit",),
    ),
    _hugetlb("", (0, 0)),
    _hugetlb(".rsvd", (5, 7)),
    Knob(
        "cgroup.freeze",
        "freezer",
        Unit.SWITCH,
        v2=Place("", "cgroup.freeze", since=(5, 2)),
        # The state is what holds, by an ancestor's doing as well; its own wish is in the other file.
        v1=Place("freezer", "freezer.state", read_file="freezer.self_freezing"),
        most=1,
        unlimited=False,
        default=0,
        combine=Combine.ANY,
    ),
)
"""Every limit, in the order in which people see them."""

_BY_KEY = {knob.key: knob for knob in KNOBS}
_DEVICE = re.compile(r"(io\.max\.[a-z]+)\[(\d{1,10}:\d{1,10})\]")
_SIZE = re.compile(r"hugetlb\.(\d{1,7}[KMG]B)(\.rsvd)?\.max")


@functools.lru_cache(1024)
def knob_of(key: str) -> Knob:
    """Return the row of a key, with its device or size filled in.

    Raises ``UnknownLimitError``, which lists names that are near.
    """
    if (device := _DEVICE.fullmatch(key)) and (row := _BY_KEY.get(f"{device[1]}[DEVICE]")):
        return structs.replace(row, key=key, detail=device[2])
    if size := _SIZE.fullmatch(key):
        row = _BY_KEY[f"hugetlb.SIZE{size[2] or ''}.max"]
        v1, v2 = _of_size(row.v1, size[1]), _of_size(row.v2, size[1])
        return structs.replace(row, key=key, detail=size[1], v1=v1, v2=v2)
    found = _BY_KEY.get(key)
    if found is None or found.per is not Per.CGROUP:
        raise UnknownLimitError(key, near_names(key))
    return found


def _of_size(place: Place | None, size: str) -> Place | None:
    return place and structs.replace(place, file=place.file.replace("SIZE", size))


def near_names(key: str) -> tuple[str, ...]:
    """Return what somebody may have meant by a key that there is not; at most three names."""
    names = [_shown(knob) for knob in KNOBS]
    return (
        tuple(difflib.get_close_matches(key, names, 3))
        or tuple(name for name in names if name.partition(".")[0] == key.partition(".")[0])[:3]
    )


def _shown(knob: Knob) -> str:
    """An example of a key."""
    return knob.key.replace("DEVICE", "8:0").replace("SIZE", "2MB")


def knob_of_flag(flag: str, versions: Mapping[str, int]) -> Knob:
    """Return the first row that a flag of ``docker update`` stands for on these versions.

    ``versions``: as ``change.Tree.versions``. Raises ``UnknownLimitError`` for no flag of docker's.
    """
    rows = [knob for knob in KNOBS if flag in knob.flags]
    if not rows:
        raise UnknownLimitError(flag, ())
    return next((knob for knob in rows if knob.place(versions.get(knob.controller, V2))), rows[0])
