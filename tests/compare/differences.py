"""Where cgwatch and cAdvisor differ on purpose, and how far two right values may be from each other.

Looking to explain a difference that ``make compare`` found? Add a row here, as narrow as it can be; but first
be sure that it is meant. ``only_zero`` holds the row to series for which cAdvisor shows nothing but 0.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from msgspec import Struct

from tests.compare.verdict import Finding, Tolerance, What


class Known(Struct, frozen=True):
    """A difference that is meant, and why."""

    families: str
    """A glob."""
    what: What
    why: str
    cgroup: str = "*"
    """A glob; ``/`` is the root."""
    detail: str = "*"
    """A glob: which series it is, and its values."""
    only_zero: bool = False

    def explains(self, finding: Finding) -> bool:
        """Tell whether a finding is this difference."""
        return (
            self.what is finding.what
            and fnmatchcase(finding.family, self.families)
            and fnmatchcase(finding.cgroup, self.cgroup)
            and fnmatchcase(finding.detail, self.detail)
            and (not self.only_zero or finding.theirs == (0, 0))
        )


def reason(finding: Finding) -> str | None:
    """Give why a difference is meant; None if it is not."""
    return next((known.why for known in KNOWN if known.explains(finding)), None)


_BATCH_BYTES = 64 * os.sysconf("SC_PAGESIZE") * (os.cpu_count() or 1)
TOLERANCES = (
    Tolerance("container_last_seen", 3, 0, "the time of cAdvisor's scrape, and of our sample"),
    Tolerance("container_*_time_seconds", 1, 0, "cAdvisor cuts the fraction off"),
    Tolerance("container_memory_*", _BATCH_BYTES, 0, "the kernel charges 64 pages at once for each CPU"),
)

_NOT_SAID = "the kernel does not say; cAdvisor shows 0"
_NOT_READ = "cAdvisor does not read it, and shows 0"
_BESIDES = "cgwatch has more to say"
_NAMED = "cAdvisor finds no name for the device, and devices without one cannot be told apart"
_HOST_DISK = "the machine's numbers, repeated at each container; 0 at mounts of other file systems"
_SHARED = "the network namespace is another's, whose counters these are"
KNOWN = (
    Known("cadvisor_version_info", What.MISSING, "the exporter's version is a label"),
    Known("cadvisor_version_info", What.EXTRA, "the exporter's version is a label"),
    Known("container_*", What.ONLY_CGWATCH, _BESIDES),
    Known("machine_*", What.ONLY_CGWATCH, _BESIDES),
    # What a file of v1 lacks.
    Known("container_memory_events_high_total", What.ONLY_CADVISOR, _NOT_SAID, only_zero=True),
    Known("container_memory_pgscan_total", What.ONLY_CADVISOR, _NOT_SAID, only_zero=True),
    Known("container_memory_pgsteal_total", What.ONLY_CADVISOR, _NOT_SAID, only_zero=True),
    # Where the hardware or the machine's configuration has nothing to say.
    Known("container_memory_migrate", What.ONLY_CADVISOR, _NOT_SAID, only_zero=True),
    Known("machine_nvm_*", What.ONLY_CADVISOR, "no such memory is here; cAdvisor shows 0", only_zero=True),
    Known(
        "container_threads*",
        What.MISSING,
        "the root has no pids.current; cAdvisor shows 0",
        "/",
        only_zero=True,
    ),
    # What cAdvisor's readers leave out.
    Known("container_memory_events_max_total", What.VALUE, _NOT_READ, only_zero=True),
    Known("container_memory_failcnt", What.VALUE, _NOT_READ, only_zero=True),
    Known("container_memory_kernel_usage", What.VALUE, _NOT_READ, only_zero=True),
    Known("container_memory_file_*", What.VALUE, _NOT_READ, only_zero=True),
    Known("container_memory_workingset_refault_*", What.VALUE, "cAdvisor counts without the nested cgroups"),
    Known("container_pressure_*", What.VALUE, "cAdvisor reads it on v2 alone", only_zero=True),
    Known("container_cpu_cfs_burst_*", What.VALUE, _NOT_READ, only_zero=True),
    Known(
        "container_memory_failures_total",
        What.VALUE,
        "cAdvisor shows the container's own faults for both scopes",
        detail='*scope="hierarchy"*',
    ),
    Known("container_processes", What.VALUE, "cAdvisor counts without the nested cgroups"),
    Known("container_creation_time_seconds", What.VALUE, "cAdvisor looks at the time of a file", "/"),
    Known("container_start_time_seconds", What.VALUE, "cAdvisor looks at the time of a file", "/"),
    Known(
        "container_spec_cpu_shares", What.VALUE, "cAdvisor inverts a formula that runtimes no longer use (v2)"
    ),
    Known("container_spec_memory_reservation_limit_bytes", What.VALUE, "cAdvisor shows memory.min (v2)"),
    # Names of devices.
    *(
        Known(family, What.MISSING, _NAMED, detail=detail)
        for family, detail in (("container_fs_*", "{} *"), ("container_blkio_*", '{major="*'))
    ),
    Known("container_fs_*", What.EXTRA, _NAMED),
    Known("container_blkio_*", What.EXTRA, _NAMED),
    # What is not the container's own.
    *(Known(f"container_fs_{what}_total", What.MISSING, _HOST_DISK) for what in ("reads", "writes")),
    Known("container_network_*", What.MISSING, _SHARED),
)
