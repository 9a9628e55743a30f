"""The families of processes and sockets: values by example."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from cgwatch.model import Detail, Sample, Tasks, TcpTables, UdpTables
from cgwatch.proc.descriptors import Descriptors
from cgwatch.proc.limits import ResourceLimit
from cgwatch.proc.schedstat import Schedstat
from cgwatch.proc.sockets import TcpSockets, UdpSockets
from cgwatch.proc.states import TaskStates
from tests.metrics.conformance import processes
from tests.metrics.test_families import container, values

if TYPE_CHECKING:
    from typing import Any


def sample(**detail: Any) -> Sample:
    return Sample(container(), detail=Detail(**detail))


@pytest.mark.parametrize("name", [row.name for row in processes.ROWS])
def test_what_nobody_read_or_what_cannot_be_told_is_absent(name: str) -> None:
    assert values(name, Sample(container())) == {}
    assert values(name, sample()) == {}


def test_load_averages_are_in_thousandths_of_a_task_rounded_down() -> None:
    found = sample(tasks=Tasks(TaskStates(), running_load=1.2349, uninterruptible_load=0.0009))
    assert values("container_cpu_load_average_10s", found) == {(): 1234}
    assert values("container_cpu_load_d_average_10s", found) == {(): 0}


def test_tasks_are_told_by_state_and_the_one_that_the_kernel_does_not_print_is_absent() -> None:
    states = TaskStates(sleeping=5, running=2, stopped=1, uninterruptible=3)
    assert values("container_tasks_state", sample(tasks=Tasks(states, 0.0, 0.0))) == {
        ("sleeping",): 5,
        ("running",): 2,
        ("stopped",): 1,
        ("uninterruptible",): 3,
    }


def test_time_on_and_waiting_for_a_cpu_is_in_seconds() -> None:
    found = sample(sched=Schedstat(run_seconds=1.5, runqueue_seconds=0.25, run_periods_total=7))
    assert values("container_cpu_schedstat_run_seconds_total", found) == {(): 1.5}
    assert values("container_cpu_schedstat_runqueue_seconds_total", found) == {(): 0.25}
    assert values("container_cpu_schedstat_run_periods_total", found) == {(): 7}


def test_open_files_and_sockets_are_counted() -> None:
    found = sample(open_files=Descriptors(open_files=12, sockets=4))
    assert values("container_file_descriptors", found) == {(): 12}
    assert values("container_sockets", found) == {(): 4}


@pytest.mark.parametrize(("soft", "shown"), [(1024, 1024), (math.inf, -1)])
def test_no_limit_on_open_files_is_shown_as_minus_1_as_in_cadvisor(soft: float, shown: int) -> None:
    found = sample(limits={"max_open_files": ResourceLimit(soft, math.inf)})
    assert values("container_ulimits_soft", found) == {("max_open_files",): shown}


def test_tcp_sockets_are_told_by_state_for_both_versions_of_ip() -> None:
    found = sample(tcp=TcpTables(TcpSockets(established=3, listen=1), TcpSockets(timewait=2)))
    v4 = values("container_network_tcp_usage_total", found)
    v6 = values("container_network_tcp6_usage_total", found)
    assert (
        set(v4)
        == set(v6)
        == {
            (state,)
            for state in (
                *("established", "synsent", "synrecv", "finwait1", "finwait2", "timewait"),
                *("close", "closewait", "lastack", "listen", "closing"),
            )
        }
    )
    assert {state: count for state, count in v4.items() if count} == {("established",): 3, ("listen",): 1}
    assert {state: count for state, count in v6.items() if count} == {("timewait",): 2}


def test_queues_of_udp_are_the_right_way_round() -> None:
    sockets = UdpSockets(
        sockets=9, unconnected=5, dropped=4, receive_queue_bytes=300, transmit_queue_bytes=20
    )
    assert values("container_network_udp_usage_total", sample(udp=UdpTables(sockets))) == {
        ("listen",): 9,
        ("dropped",): 4,
        ("rxqueued",): 300,
        ("txqueued",): 20,
    }


def test_without_ipv6_there_are_no_series_of_it() -> None:
    found = sample(tcp=TcpTables(TcpSockets()), udp=UdpTables(UdpSockets()))
    assert values("container_network_tcp6_usage_total", found) == {}
    assert values("container_network_udp6_usage_total", found) == {}


def test_the_counters_of_tcp_are_those_that_the_kernel_prints() -> None:
    found = sample(tcp_counters={"maxconn": -1, "retranssegs": 8})
    assert values("container_network_advance_tcp_stats_total", found) == {
        ("maxconn",): -1,
        ("retranssegs",): 8,
    }
