"""``process_*``: what the agent itself takes, under the names that every client library has.

``prometheus_client.ProcessCollector`` lists each open descriptor at each scrape; an agent that keeps 20,000
of them open spends more on that than on the rest of the page.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_VSIZE, _RSS, _STARTTIME, _UTIME, _STIME = 22, 23, 21, 13, 14
"""Fields of proc_pid_stat(5), counted from 0."""
_DESCRIPTORS = "/proc/self/fd"


class ProcessMetrics(Collector):
    """Reads /proc/self at each scrape: it is this process whatever ``roots.proc`` is."""

    def __init__(self) -> None:
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._boot_seconds = _boot_seconds()

    def collect(self) -> Iterable[Metric]:
        """Return what /proc/self says now."""
        with open("/proc/self/stat", "rb") as file:
            # The command in parentheses may hold spaces.
            fields = b"0 0" + file.read().rpartition(b")")[2]
        numbers = fields.split()
        ticks = int(numbers[_UTIME]) + int(numbers[_STIME])
        yield CounterMetricFamily(
            "process_cpu_seconds", "CPU time used, user and system, in seconds.", ticks / self._ticks
        )
        yield GaugeMetricFamily(
            "process_virtual_memory_bytes", "Size of the virtual memory, in bytes.", int(numbers[_VSIZE])
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Size of the resident memory, in bytes.",
            int(numbers[_RSS]) * self._page_bytes,
        )
        if self._boot_seconds is not None:
            yield GaugeMetricFamily(
                "process_start_time_seconds",
                "When the process was started, in seconds since the epoch.",
                self._boot_seconds + int(numbers[_STARTTIME]) / self._ticks,
            )
        yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", open_descriptors())
        yield GaugeMetricFamily(
            "process_max_fds",
            "The soft limit on open file descriptors.",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are fixed."""
        return []


def open_descriptors() -> int:
    """Return how many descriptors are open: the directory's size since Linux 6.2; before, they are listed."""
    return os.stat(_DESCRIPTORS).st_size or len(os.listdir(_DESCRIPTORS)) - 1  # one is of the listing itself


def _boot_seconds() -> float | None:
    try:
        with open("/proc/stat", "rb") as file:
            return next((float(line.split()[1]) for line in file if line.startswith(b"btime ")), None)
    except OSError:
        return None
