"""The families that need /proc of each process or network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.metrics.conformance.rules import COUNTER, GAUGE, Captured, Row, Rule, each

if TYPE_CHECKING:
    from pathlib import Path

_OWN_ALONE = "without those of nested cgroups"
_V1_ALONE = "0 on v2, and on v1 unless enable_load_reader is set"
_TWICE = "each container of a shared network namespace shows it, and those on the host's show the host's"


def _process(cgroup: Captured) -> Path:
    """A captured process of the cgroup; of the root it is init."""
    proc = next(above / "proc" for above in cgroup.directories[0].parents if (above / "proc").is_dir())
    pids = ["1"] if cgroup.path == "/" else cgroup.text("cgroup.procs").split()
    return proc / (pids[0] if pids else "none")


def _limits(cgroup: Captured) -> bool:
    """The cgroups with a process whose limits were captured."""
    return (_process(cgroup) / "limits").exists()


def _sockets(table: str) -> Rule:
    """The cgroups with a network namespace of their own, if the kernel has the table."""

    def rule(cgroup: Captured) -> bool:
        process = _process(cgroup)
        namespace, kthreadd = process / "ns/net", process.parent / "2"
        is_own = namespace.is_symlink() and namespace.readlink() != (kthreadd / "ns/net").readlink()
        return (process / "net" / table).exists() and (is_own or cgroup.path == "/")

    return rule


ROWS: tuple[Row, ...] = (
    Row("container_cpu_load_average_10s", GAUGE, (), each, each, _V1_ALONE),
    Row("container_cpu_load_d_average_10s", GAUGE, (), each, each, _V1_ALONE),
    Row("container_tasks_state", GAUGE, ("state",), each, each, f"{_V1_ALONE}; a state iowaiting"),
    *(
        Row(
            f"container_cpu_schedstat_{what}_total",
            COUNTER,
            (),
            each,
            each,
            f"{_OWN_ALONE}; 0 once when a process ends while it is read",
        )
        for what in ("run_seconds", "runqueue_seconds", "run_periods")
    ),
    Row("container_file_descriptors", GAUGE, (), each, each, _OWN_ALONE),
    Row("container_sockets", GAUGE, (), each, each, _OWN_ALONE),
    Row("container_ulimits_soft", GAUGE, ("ulimit",), _limits, _limits, "not for cgroups of no runtime"),
    *(
        Row(
            f"container_network_{table}_usage_total",
            GAUGE,
            (f"{table[:3]}_state",),
            _sockets(table),
            _sockets(table),
            f"{_TWICE}; rxqueued and txqueued of UDP swapped",
        )
        for table in ("tcp", "tcp6", "udp", "udp6")
    ),
    Row(
        "container_network_advance_tcp_stats_total",
        GAUGE,
        ("tcp_state",),
        _sockets("netstat"),
        _sockets("netstat"),
        f"{_TWICE}; 99 names, 0 for those that the kernel does not print",
    ),
)
