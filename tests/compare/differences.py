"""Where cgwatch and cAdvisor differ on purpose, and how far two right values may be from each other.

Looking to explain a difference that ``make compare`` found? Look at the kernel's file first, then add a row,
as narrow as it can be (see ``Known``). A row that explains nothing any more is an error, too.
"""

from __future__ import annotations

import os

from tests.compare.known import EVERYTHING, Known, Round, init_is_closed, on_v1, on_v2
from tests.compare.verdict import Tolerance, What

_TURN_SECONDS = 5.0
_BATCH_PAGES = 64 * (os.cpu_count() or 1)
_BATCH = "the kernel charges 64 pages at once for each CPU"
_MEMORY_BYTES = (
    *("usage_bytes", "working_set_bytes", "rss", "cache", "mapped_file", "swap", "max_usage_bytes"),
    *("kernel_usage", "total_active_file_bytes", "total_inactive_file_bytes", "file_*_bytes"),
)
_SPACE = tuple(
    f"container_fs_{what}" for what in ("usage_bytes", "inodes_free", "limit_bytes", "inodes_total")
)
"""Of file systems; the first two go up and down."""
TOLERANCES = (
    Tolerance("container_last_seen", 3, 0, "the time of cAdvisor's scrape, and of our sample"),
    Tolerance("container_*_time_seconds", 1, 0, "cAdvisor cuts the fraction off"),
    *(
        Tolerance(f"container_memory_{what}", _BATCH_PAGES * os.sysconf("SC_PAGESIZE"), 0, _BATCH)
        for what in _MEMORY_BYTES
    ),
    Tolerance("container_memory_numa_pages", _BATCH_PAGES, 0, _BATCH),
    *(Tolerance(family, 0, 0.05, "each asks the file systems once a minute") for family in _SPACE[:2]),
    *(
        Tolerance(
            f"container_{what}", 0, 0, "cgroups are read in turns, as far as time allows", _TURN_SECONDS
        )
        for what in (
            *("cpu_schedstat_*", "cpu_load_*", "tasks_state", "file_descriptors", "sockets"),
            *("network_advance_*", "network_*_usage_*"),
        )
    ),
)

_NOT_SAID = "the kernel does not say; cAdvisor shows 0"
_NOT_READ = "cAdvisor does not read it, and shows 0"
_NOT_ASKED = "unless it is told to ask the kernel, cAdvisor shows 0; the group is off here"
_BESIDES = "cgwatch has more to say"
_OWN_ALONE = "cAdvisor counts without the nested cgroups"
_NAMED = "cAdvisor finds no name for the device, and devices without one cannot be told apart"
_HOST_DISK = "the machine's numbers, repeated at each container"
_NO_DISK = "no disk, but the mount of another file system, at which cAdvisor shows 0"
_OVERLAY = "an overlay is the file system of its upper directory once more"
_WALKED = "cAdvisor walks through all files of the container"
_SHARED = "the network namespace is another's, whose counters these are"
_FILE_TIME = "cAdvisor looks at the time of a file"
_OF_DISKSTATS = ("reads", "writes", "sector_reads", "sector_writes", "reads_merged", "writes_merged")
_SECONDS = ("read_seconds", "write_seconds", "io_time_seconds", "io_time_weighted_seconds")
_DISKSTATS = (
    *(f"container_fs_{what}_total" for what in (*_OF_DISKSTATS, *_SECONDS)),
    "container_fs_io_current",
)

ROOT = ("/",)
NESTING = ("/", "/docker")
"""Cgroups with others below them."""
CONTAINERS = ("holder", "burner", "writer", "joined", "host")
"""As ``busy`` calls them."""
SHARING = ("joined", "host")
"""Those without a network of their own."""

KNOWN = (
    Known("cadvisor_version_info", What.MISSING, "the exporter's version is a label"),
    Known("cadvisor_version_info", What.EXTRA, "the exporter's version is a label"),
    Known("container_*", What.ONLY_CGWATCH, _BESIDES, is_own=True),
    Known("machine_*", What.ONLY_CGWATCH, _BESIDES, is_own=True),
    # What a file of v1 lacks.
    *(
        Known(
            f"container_memory_{what}_total",
            What.ONLY_CADVISOR,
            _NOT_SAID,
            only_zero=True,
            restored=True,
            where=on_v1,
        )
        for what in ("events_high", "pgscan", "pgsteal")
    ),
    # Where the hardware or the machine's configuration has nothing to say.
    Known(
        "container_memory_migrate", What.ONLY_CADVISOR, _NOT_SAID, only_zero=True, restored=True, where=on_v2
    ),
    Known("machine_nvm_*", What.ONLY_CADVISOR, "no such memory is here; cAdvisor shows 0", only_zero=True),
    Known("container_threads*", What.MISSING, _NOT_SAID, ROOT, only_zero=True, restored=True),
    # What cAdvisor's readers leave out.
    Known(
        "container_memory_events_max_total", What.VALUE, _NOT_READ, only_zero=True, restored=True, where=on_v1
    ),
    Known("container_memory_failcnt", What.VALUE, _NOT_READ, only_zero=True, restored=True, where=on_v2),
    Known("container_memory_kernel_usage", What.VALUE, _NOT_READ, only_zero=True, restored=True, where=on_v2),
    Known(
        "container_memory_file_*_bytes",
        What.VALUE,
        _NOT_READ,
        only_zero=True,
        restored=True,
        where=on_v1,
        quiet="little may be on its way to a disk",
    ),
    Known("container_pressure_*", What.VALUE, _NOT_READ, only_zero=True, restored=True, where=on_v1),
    # What it counts without the nested cgroups.
    Known(
        "container_memory_workingset_refault_*",
        What.VALUE,
        _OWN_ALONE,
        NESTING,
        where=on_v1,
        quiet="nothing may have come back since it was reclaimed",
    ),
    Known(
        "container_memory_failures_total",
        What.VALUE,
        "cAdvisor shows the container's own faults for both scopes",
        NESTING,
        detail='*scope="hierarchy"*',
        restored=True,
        where=on_v1,
    ),
    Known("container_processes", What.VALUE, _OWN_ALONE, NESTING, restored=True),
    Known("container_file_descriptors", What.VALUE, _OWN_ALONE, NESTING),
    Known("container_sockets", What.VALUE, _OWN_ALONE, NESTING, quiet="no container may have any"),
    Known(
        "container_cpu_schedstat_*",
        What.VALUE,
        "both keep what processes have run that ended since they started, and cAdvisor starts first",
        NESTING,
        quiet="no process may have ended between",
    ),
    *(
        Known(family, What.ONLY_CADVISOR, _NOT_ASKED, only_zero=True, rounds=(Round.DEFAULTS,))
        for family in ("container_cpu_load_*", "container_tasks_state")
    ),
    Known("container_cpu_load_*", What.VALUE, _OWN_ALONE, NESTING, rounds=EVERYTHING, where=on_v1),
    Known("container_tasks_state", What.VALUE, _OWN_ALONE, NESTING, rounds=EVERYTHING, where=on_v1),
    Known(
        "container_tasks_state",
        What.MISSING,
        "the kernel prints it nowhere",
        detail='{state="iowaiting"}*',
        rounds=EVERYTHING,
    ),
    Known(
        "container_tasks_state",
        What.VALUE,
        "since Linux 6.1 the kernel leaves out those that sleep and may be frozen (TASK_FREEZABLE)",
        detail='{state="sleeping"}*',
        rounds=EVERYTHING,
        where=on_v1,
    ),
    *(
        Known(
            f"container_{what}",
            What.MISSING,
            "not all processes may be looked at",
            ROOT,
            where=init_is_closed,
        )
        for what in ("file_descriptors", "sockets")
    ),
    # What it takes from elsewhere.
    *(
        Known(f"container_{what}_time_seconds", What.VALUE, _FILE_TIME, ROOT)
        for what in ("creation", "start")
    ),
    Known(
        "container_spec_cpu_shares",
        What.VALUE,
        "cAdvisor inverts a formula that runtimes no longer use",
        restored=True,
        where=on_v2,
    ),
    Known(
        "container_spec_memory_reservation_limit_bytes",
        What.VALUE,
        "cAdvisor shows memory.min",
        restored=True,
        where=on_v2,
    ),
    # Disks.
    *(Known(family, What.MISSING, _NO_DISK, ROOT, only_zero=True) for family in _DISKSTATS),
    *(Known(family, What.MISSING, _HOST_DISK, CONTAINERS) for family in _DISKSTATS),
    *(
        Known(f"container_fs_{what}_total", What.VALUE, _HOST_DISK, CONTAINERS)
        for what in ("sector_reads", "sector_writes")
    ),
    *(
        Known(
            f"container_fs_{what}_total",
            What.VALUE,
            "cAdvisor divides milliseconds by 10^9",
            ROOT,
            times=1e6,
            restored=True,
        )
        for what in _SECONDS
    ),
    *(Known(family, What.MISSING, _WALKED, CONTAINERS) for family in _SPACE),
    *(
        Known(
            f"container_fs_{what}",
            What.VALUE,
            "cgroups of v1 are counted from a device's first throttle rule on (6.9), before merges",
            ROOT,
            detail='{device="/dev/*',
            where=on_v1,
        )
        for what in ("reads_total", "writes_total", "reads_bytes_total", "writes_bytes_total")
    ),
    *(
        Known(
            family,
            What.VALUE,
            "each asks once a minute, and memory fills in seconds",
            ROOT,
            detail='{device="/dev/shm"}*',
            quiet="nobody may write there",
        )
        for family in _SPACE[:2]
    ),
    *(Known(family, What.MISSING, _OVERLAY, ROOT, detail='{device="overlay_*"}*') for family in _SPACE),
    *(
        Known(family, what, _NAMED, ROOT, detail=detail, quiet="there may be no such device")
        for family, what, detail in (
            ("container_fs_*", What.MISSING, "{} *"),
            ("container_fs_*", What.EXTRA, '{device="/dev/loop*'),
            ("container_blkio_*", What.MISSING, '{major="7"*'),
            ("container_blkio_*", What.EXTRA, '{device="/dev/loop*'),
        )
    ),
    Known(
        "container_fs_sector_*",
        What.EXTRA,
        "cAdvisor shows these for a runtime's containers and / alone, from /proc/diskstats",
        ("/docker",),
    ),
    # Networks.
    Known("container_network_*", What.MISSING, _SHARED, SHARING),
    Known(
        "container_network_advance_tcp_stats_total",
        What.MISSING,
        "this kernel has no such counter; cAdvisor shows 0",
        only_zero=True,
    ),
    Known(
        "container_network_advance_tcp_stats_total", What.EXTRA, "the kernel has more than cAdvisor asks for"
    ),
)
