"""Why the kernel does not take a limit, in words: one row for each file and errno. Pure.

The kernel says one number; what it means depends on the file. Each row was seen on a real kernel, or stands
beside the line of the kernel's source that answers so.
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from cgwatch.errors import (
    AccessDeniedError,
    CgroupGoneError,
    FileMissingError,
    KernelFileError,
    LimitBusyError,
    NotSupportedError,
    ReadFailedError,
    ReclaimedLessError,
    ValueRefusedError,
    WriteRefusedError,
)


class _Row(NamedTuple):
    file: re.Pattern[str]
    number: int
    words: str


def _row(file: str, number: int, words: str) -> _Row:
    return _Row(re.compile(file), number, words)


_RANGE_QUOTA = "a quota is from 1000 to 17592186044415 microseconds, a period from 1000 to 1000000"

_ROWS = (
    # mm/memcontrol-v1.c, mem_cgroup_resize_max: nobody is killed, the old limit stays.
    _row(
        r"memory\.(memsw\.)?limit_in_bytes",
        errno.EBUSY,
        "more is in use and the kernel could not reclaim it; the limit is what it was. "
        "Free memory in the cgroup, or allow more",
    ),
    _row(
        r"memory\.limit_in_bytes",
        errno.EINVAL,
        "it would be above memory.memsw.limit_in_bytes, which is of memory and swap; raise that first",
    ),
    _row(
        r"memory\.memsw\.limit_in_bytes",
        errno.EINVAL,
        "it would be below memory.limit_in_bytes, and it is of memory and swap; lower that first",
    ),
    _row(
        r"memory\.soft_limit_in_bytes",
        errno.EOPNOTSUPP,
        "this kernel has no soft limits (CONFIG_PREEMPT_RT); use memory.max",
    ),
    _row(
        r"memory\.reclaim",
        errno.EAGAIN,
        "less could be reclaimed than was asked for; the rest is in use and has nowhere to go",
    ),
    _row(r"memory\.oom\.group", errno.EINVAL, "it is 0 or 1"),
    _row(r"memory\..*", errno.EINVAL, "it is a number of bytes, or max"),
    # kernel/sched/core.c, tg_set_bandwidth and tg_cfs_schedulable_down.
    _row(
        r"cpu\.cfs_(quota|period)_us",
        errno.EINVAL,
        "a cgroup above allows less for its period, one below has more, or cpu.cfs_burst_us is larger; "
        f"raise from above, lower from below, and the burst first. {_RANGE_QUOTA.capitalize()}",
    ),
    _row(
        r"cpu\.max",
        errno.EINVAL,
        f"{_RANGE_QUOTA}, and the quota is not below cpu.max.burst; lower that first",
    ),
    _row(
        r"cpu\.(max\.burst|cfs_burst_us)",
        errno.EINVAL,
        "a burst is at most the quota; raise the quota first",
    ),
    # sched_group_set_shares: an idle group has no weight.
    _row(
        r"cpu\.(weight|shares)",
        errno.EINVAL,
        "it has no weight while cpu.idle is 1; write cpu.idle=0 first",
    ),
    _row(r"cpu\.weight", errno.ERANGE, "a weight is from 1 to 10000"),
    _row(r"cpu\.idle", errno.EINVAL, "it is 0 or 1, and not of the root cgroup"),
    # kernel/cgroup/cpuset.c, validate_change and update_cpumask.
    _row(
        r"cpuset\.(cpus|mems)",
        errno.EACCES,
        "the cgroup above has not got all of them; give them to that one first",
    ),
    _row(
        r"cpuset\.(cpus|mems)",
        errno.EBUSY,
        "a cgroup below has more, or a sibling has them for itself; narrow that one first",
    ),
    _row(
        r"cpuset\.(cpus|mems)",
        errno.ENOSPC,
        "it has processes, which need at least one; move them away first",
    ),
    _row(
        r"cpuset\.(cpus|mems)",
        errno.ERANGE,
        "this machine has no such number",
    ),
    _row(
        r"cpuset\.(cpus|mems)",
        errno.EINVAL,
        "it is a list such as 0-3,8 of numbers that this machine has and that no sibling has for itself",
    ),
    # block/blk-cgroup.c, blkg_conf_open_bdev; block/blk-throttle.c, tg_set_limit.
    _row(
        r"(io\.max|blkio\.throttle\..*|io\.(bfq\.)?weight|blkio\.(bfq\.)?weight)",
        errno.ENODEV,
        "there is no such block device, or it is a partition; name the whole disk as MAJOR:MINOR",
    ),
    _row(r"io\.max", errno.ERANGE, "a bound is a number from 2, or max"),
    _row(
        r"io\.max",
        errno.EINVAL,
        "it is one device and its bounds from 2, as 8:0 rbps=1048576 wiops=max, without units",
    ),
    _row(r"blkio\.throttle\..*", errno.EINVAL, "it is a device and a number, as 8:0 1048576; 0 is no limit"),
    _row(r"io\.weight", errno.EINVAL, "a weight is from 1 to 10000"),
    _row(r"(blk)?io\.bfq\.weight", errno.EINVAL, "a weight is from 1 to 1000"),
    _row(r"(blk)?io\.bfq\.weight", errno.ERANGE, "a weight is from 1 to 1000"),
    _row(r"blkio\.weight", errno.EINVAL, "a weight is from 10 to 1000"),
    _row(r"pids\.max", errno.EINVAL, "it is a number from 0 to 4194304, or max"),
    # mm/hugetlb_cgroup.c: pages in use are not taken away.
    _row(r"hugetlb\..*", errno.EBUSY, "more huge pages are in use; free them first"),
    _row(r"hugetlb\..*", errno.EINVAL, "it is a number of bytes, at least one page, or max"),
    _row(r"freezer\.state", errno.EINVAL, "it is FROZEN or THAWED"),
    _row(r"cgroup\.freeze", errno.ERANGE, "it is 0 or 1"),
    _row(
        r".*",
        errno.EOPNOTSUPP,
        "the kernel has the file and not the feature, here: a threaded cgroup, or an option is off",
    ),
    _row(
        r".*",
        errno.EROFS,
        "the cgroup file system is mounted read-only here; run where it is writable "
        "(in a container: mount the host's, not read-only)",
    ),
    _row(r".*", errno.EACCES, "it takes root, or a cgroup that was delegated to this user"),
    _row(r".*", errno.EPERM, "it takes root, or a cgroup that was delegated to this user"),
    _row(r".*", errno.ENOENT, "the cgroup is gone, or its controller was switched off above"),
    _row(r".*", errno.ENODEV, "the cgroup is gone"),
    _row(r".*", errno.ERANGE, "the number is out of range"),
    _row(r".*", errno.EINVAL, "the kernel does not take this value here"),
)


_DEVICE_FILES = re.compile(r"io\..*|blkio\..*")
_ERRORS: dict[int, type[KernelFileError]] = {
    errno.EACCES: AccessDeniedError,
    errno.EPERM: AccessDeniedError,
    errno.EROFS: AccessDeniedError,
    errno.EOPNOTSUPP: NotSupportedError,
    errno.ENOENT: FileMissingError,
    errno.ENODEV: CgroupGoneError,
}
_REFUSALS: dict[int, type[WriteRefusedError]] = {
    errno.EBUSY: LimitBusyError,
    errno.EINVAL: ValueRefusedError,
    errno.ERANGE: ValueRefusedError,
    errno.ENOSPC: ValueRefusedError,
    errno.EAGAIN: ReclaimedLessError,
}


def refused(
    directory: str, file: str, text: str, number: int, *, opened: bool, is_there: bool
) -> KernelFileError:
    """Return the error for ``number`` from writing ``text`` to a cgroup's file.

    ``opened``: the file could be opened, and it is the write that failed. ``is_there``: the cgroup still is.
    """
    # A cpuset that is no part of the parent's is refused by EACCES when it is written, not when it is opened;
    # ENODEV is the device if the cgroup is still there.
    is_value = (opened and number == errno.EACCES and file.startswith("cpuset.")) or (
        is_there and number == errno.ENODEV and _DEVICE_FILES.fullmatch(file) is not None
    )
    is_general = not is_value and number in {errno.EACCES, errno.ENODEV}
    words = why("" if is_general else file, number) or "the kernel does not say more"
    problem = f"writing {text!r}: {words} ({errno.errorcode.get(number, number)})"
    path = f"{directory}/{file}"
    if is_value or number in _REFUSALS:
        return _REFUSALS.get(number, ValueRefusedError)(path, text, problem, number)
    return _ERRORS.get(number, ReadFailedError)(path, problem, number)


def why(file: str, number: int) -> str | None:
    """Return what ``number`` from a write to ``file`` means, and what to do; ``None`` where nobody knows."""
    return next((row.words for row in _ROWS if row.number == number and row.file.fullmatch(file)), None)
