"""What is sampled, and how often: cheap files at each tick, dear ones at intervals of their own."""

from __future__ import annotations

from msgspec import Struct


class Plan(Struct, frozen=True):
    """How often each kind of file is read.

    What is read for each cgroup or process in turn is spread over the ticks of its interval, so that each
    tick costs about the same.
    """

    interval_seconds: float = 5.0
    """Between two ticks."""
    settings_seconds: float = 30.0
    """For limits: they change by hand, or by cgwatch, which knows."""
    machine_seconds: float = 300.0
    """For CPUs and memory of the node, which change by hotplug only."""
    processes_seconds: float = 10.0
    """For files of each process: states, run queues, open files."""
    sockets_seconds: float = 30.0
    """For the tables of sockets in each network namespace."""
    parts: frozenset[str] = frozenset()
    """What is read only if somebody wants it: optional controllers by the name of their field in a sample
    (``cpuset``, ``hugetlb``, ``numa``), what ``model.Detail`` holds (``detail.tasks``), and of the node
    ``disks``, ``filesystems``, ``topology`` and ``machine_pressure``."""

    def ticks(self, seconds: float) -> int:
        """Return how many ticks an interval has, at least one."""
        return max(1, round(seconds / self.interval_seconds))
