"""What is read of processes and sockets, on nodes made of plain files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import hierarchy
from cgwatch.errors import MalformedFileError
from cgwatch.model import Description, Detail, Runtime
from cgwatch.proc.descriptors import Descriptors
from cgwatch.proc.limits import ResourceLimit
from cgwatch.proc.reading import parsed
from cgwatch.proc.schedstat import Schedstat
from cgwatch.proc.states import TaskStates
from cgwatch.sampling import processes
from cgwatch.sampling.detail import DetailReader
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.cgroup.fake_trees import Node, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST, ONE, TWO = 4026531840, 4026532201, 4026532305
PROCESS_PARTS = frozenset({"detail.tasks", "detail.sched", "detail.open_files", "detail.limits"})
SOCKET_PARTS = frozenset({"detail.tcp", "detail.udp", "detail.tcp_counters"})

STAT = "%d (sh) %s 1 1 1 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n"
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            %-20s 4096                 files     \n"
)
TABLE = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENING = (
    "   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1581 1\n"
)
UDP = "   7: 00000000:0044 00000000:0000 07 00000001:00000010 00:00000000 00000000     0        0 9 2 0 3\n"


class Watched(Node):
    """A node of which processes and sockets are looked at. The clock ticks at every look at it."""

    def __init__(
        self, directory: Path, parts: frozenset[str] = PROCESS_PARTS, *, interval_ticks: int = 1
    ) -> None:
        super().__init__(directory)
        self.step_seconds = 0.0
        self._plan = Plan(
            interval_seconds=5.0,
            processes_seconds=5.0 * interval_ticks,
            sockets_seconds=5.0 * interval_ticks,
            parts=parts,
        )
        self.start(1, network=HOST)

    @property
    def sampler(self) -> Sampler:
        if self._sampler is None:
            self._sampler = Sampler(
                hierarchy.find(str(self.proc), str(self.cgroup)),
                proc_root=str(self.proc),
                descriptors=self.descriptors,
                plan=self._plan,
                clock=lambda: self.now_seconds,
                monotonic=self._monotonic,
                failed=self.failures.append,
            )
        return self._sampler

    def _monotonic(self) -> float:
        self.now_seconds += self.step_seconds
        return self.now_seconds

    def start(
        self, pid: int, *links: str, state: str = "S", ran: int = 1, network: int | None = None
    ) -> None:
        """Make a process with ``links`` in its directory of open files, which ran for ``ran`` seconds."""
        self.process(pid, network)
        self.ran(pid, ran, state=state)
        write(self.proc / str(pid), {"limits": LIMITS % (1000 + pid)})
        (self.proc / str(pid) / "fd").mkdir()
        for number, link in enumerate(links):
            (self.proc / str(pid) / "fd" / str(number)).symlink_to(link)

    def ran(self, pid: int, seconds: int, *, state: str = "S") -> None:
        """Change what a process has run so far, and what it does."""
        counters = f"{seconds}000000000 {seconds}500000000 {seconds}\n"
        write(self.proc / str(pid), {"stat": STAT % (pid, state, pid), "schedstat": counters})

    def end(self, pid: int) -> None:
        shutil.rmtree(self.proc / str(pid))

    def pids(self, path: str, *pids: int) -> None:
        (self.cgroup / path.lstrip("/") / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def details(self) -> dict[str, Detail]:
        """Tick, and return what there is by path."""
        return {path: sample.detail for path, sample in self.samples().items() if sample.detail is not None}


def container(number: int) -> str:
    return f"/docker/{number:064x}"


A, B = container(1), container(2)
INSIDE = f"{A}/inside"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Watched]:
    """A node with two containers, one of which has a cgroup inside: five processes and init."""
    node = Watched(tmp_path / "node")
    make(node)
    yield node
    node.close()


def make(node: Watched) -> None:
    node.v2("/", cgroup__procs="2\n1\n")  # the other one, a kernel thread, shows nothing
    node.v2("/docker")
    node.v2(A, cgroup__procs="10\n11\n")
    node.start(10, "/dev/null", "socket:[1]", ran=10)
    node.start(11, "pipe:[2]", ran=11, state="R")
    node.v2(INSIDE, cgroup__procs="12\n")
    node.start(12, "/dev/null", ran=12, state="D")
    node.v2(B, cgroup__procs="20\n21\n")
    node.start(20, ran=20)
    node.start(21, ran=21, state="T")


def run_periods(details: dict[str, Detail]) -> dict[str, int]:
    return {path: detail.sched.run_periods_total for path, detail in details.items() if detail.sched}


def states(detail: Detail) -> TaskStates:
    assert detail.tasks is not None
    return detail.tasks.states


# Processes.


def test_a_cgroup_shows_its_processes_and_those_below_it_and_the_root_shows_all(node: Watched) -> None:
    details = node.details()
    assert {path: states(detail) for path, detail in details.items()} == {
        "/": TaskStates(3, 1, 1, 1),
        "/docker": TaskStates(2, 1, 1, 1),
        A: TaskStates(1, 1, 0, 1),
        INSIDE: TaskStates(0, 0, 0, 1),
        B: TaskStates(1, 0, 1, 0),
    }
    assert {path: detail.open_files for path, detail in details.items()} == {
        "/": Descriptors(4, 1),
        "/docker": Descriptors(4, 1),
        A: Descriptors(4, 1),
        INSIDE: Descriptors(1, 0),
        B: Descriptors(0, 0),
    }
    assert details[A].sched == Schedstat(33.0, 34.5, 33)
    assert run_periods(details) == {"/": 75, "/docker": 74, A: 33, INSIDE: 12, B: 41}
    assert node.failures == []


def test_on_v1_the_hierarchy_that_a_cgroup_is_in_lists_its_processes(tmp_path: Path) -> None:
    node = Watched(tmp_path / "node")
    node.v1("/", procs="1\n")
    node.v1("/docker")
    node.v1(A, procs="10\n")
    node.start(10, ran=10)
    node.v1(B, "pids", procs="10\n")
    assert run_periods(node.details()) == {"/": 11, "/docker": 10, A: 10, B: 10}
    assert node.failures == []
    node.close()


def test_the_limit_on_open_files_is_that_of_the_process_that_the_runtime_names(node: Watched) -> None:
    details = node.details()
    limits = {path: detail.limits["max_open_files"] for path, detail in details.items() if detail.limits}
    expected = {"/": 1001, A: 1010, INSIDE: 1012, B: 1020}
    assert limits == {path: ResourceLimit(soft, 4096) for path, soft in expected.items()}
    said = Description(Runtime.DOCKER, A[8:], "shop", "image:1", {}, "running", pid=11)
    node.sampler.describe({A[8:]: said})
    assert node.details()[A].limits == {"max_open_files": ResourceLimit(1011, 4096)}
    node.pids(A, 10)  # that one ended, and the runtime has not told yet
    assert node.details()[A].limits == {"max_open_files": ResourceLimit(1010, 4096)}


@pytest.mark.parametrize("wanted", sorted(PROCESS_PARTS))
def test_only_what_somebody_wants_is_read(wanted: str, tmp_path: Path) -> None:
    node = Watched(tmp_path / "node", frozenset({wanted}))
    make(node)
    detail = node.details()[A]
    shown = {f"detail.{name}" for name in Detail.__struct_fields__ if getattr(detail, name) is not None}
    assert shown == {wanted}
    node.close()


def test_where_nobody_wants_it_there_is_nothing_and_no_process_is_looked_at(tmp_path: Path) -> None:
    node = Watched(tmp_path / "node", frozenset({"memory", "disks"}))
    make(node)
    write(node.proc / "10", {"stat": "what?", "schedstat": "what?", "limits": "what?"})
    assert node.details() == {}
    assert node.failures == []
    node.close()


def test_each_process_is_read_once_and_one_that_cannot_be_costs_its_own_numbers(node: Watched) -> None:
    write(node.proc / "12", {"schedstat": "lots\n"})
    details = node.details()
    assert run_periods(details) == {"/": 63, "/docker": 62, A: 21, INSIDE: 0, B: 41}
    assert [(type(failure), failure.path) for failure in node.failures] == [
        (MalformedFileError, f"{node.proc}/12/schedstat")
    ]


def test_a_process_that_vanished_is_no_failure_and_its_counters_stay(node: Watched) -> None:
    before = run_periods(node.details())
    node.end(11)
    details = node.details()
    assert run_periods(details) == before
    assert states(details[A]) == TaskStates(1, 0, 0, 1)
    assert node.failures == []


def test_counters_do_not_go_down_when_a_process_cannot_be_read_for_a_while(node: Watched) -> None:
    before = run_periods(node.details())
    write(node.proc / "11", {"schedstat": "lots\n"})
    assert run_periods(node.details()) == before
    node.ran(11, 13)
    assert run_periods(node.details()) == before | {path: before[path] + 2 for path in ("/", "/docker", A)}


def test_counters_of_the_cgroups_above_keep_what_ran_in_one_that_is_gone(node: Watched) -> None:
    before = run_periods(node.details())
    shutil.rmtree(node.cgroup / B.lstrip("/"))
    node.end(20)
    node.end(21)
    details = node.details()
    assert run_periods(details) == {path: count for path, count in before.items() if path != B}
    assert states(details["/docker"]) == TaskStates(1, 1, 0, 1)


def test_a_cgroup_made_again_begins_anew(node: Watched) -> None:
    assert run_periods(node.details())[B] == 41
    (node.cgroup / B.lstrip("/")).rename(node.cgroup / "old")  # so that the inode is not given again
    shutil.move(node.cgroup / "old", node.proc.parent / "old")
    node.v2(B, cgroup__procs="30\n")
    node.start(30, ran=3)
    details = node.details()
    assert run_periods(details)[B] == 3
    assert run_periods(details)["/docker"] == 74 + 3


def test_a_cgroup_whose_files_are_opened_anew_keeps_its_counters(node: Watched) -> None:
    (node.cgroup / B.lstrip("/") / "memory.current").unlink()
    before = run_periods(node.details())
    (followed,) = (each for each in node.sampler.followed if each.path == B)
    node.end(21)
    write(node.cgroup / B.lstrip("/"), {"memory.current": "4096\n"})
    for _ in range(10):  # more ticks than settings are read in
        details = node.details()
    assert followed not in node.sampler.followed
    assert run_periods(details) == before


def test_a_kernel_that_does_not_count_has_no_counters_rather_than_zeros(node: Watched) -> None:
    for file in node.proc.glob("*/schedstat"):
        file.write_text("0 0 0\n")
    details = node.details()
    assert run_periods(details) == {}
    assert states(details[A]) == TaskStates(1, 1, 0, 1)
    for file in node.proc.glob("*/schedstat"):
        file.unlink()
    assert run_periods(node.details()) == {}
    assert node.failures == []


def test_where_the_agent_may_not_look_open_files_are_absent_and_nothing_failed(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> os._ScandirIterator[str]:
        if path == f"{node.proc}/12/fd":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    details = node.details()
    shown = {path for path, detail in details.items() if detail.open_files is not None}
    assert shown == {B}
    assert run_periods(details)["/"] == 75
    assert node.failures == []


def test_where_pids_cannot_be_told_there_is_nothing_of_processes_but_the_init_process_of_the_runtime(
    node: Watched,
) -> None:
    (node.cgroup / A.lstrip("/") / "cgroup.procs").write_text("0\n0\n")  # all in another pid namespace
    said = Description(Runtime.DOCKER, A[8:], "shop", "image:1", {}, "running", pid=10)
    node.sampler.describe({A[8:]: said})
    details = node.details()
    assert {
        path for path, detail in details.items() if detail.tasks or detail.sched or detail.open_files
    } == {
        INSIDE,
        B,
    }
    assert details[A].limits == {"max_open_files": ResourceLimit(1010, 4096)}
    assert node.failures == []


def test_with_another_pid_namespaces_proc_there_is_nothing_of_processes_but_limits(node: Watched) -> None:
    (node.proc / "self").rename(node.proc / "4194304")
    (node.proc / "self").symlink_to("4194304")
    said = Description(Runtime.DOCKER, B[8:], "shop", "image:1", {}, "running", pid=21)
    node.sampler.describe({B[8:]: said})
    details = node.details()
    assert {
        path for path, detail in details.items() if detail.tasks or detail.sched or detail.open_files
    } == (set())
    limits = {path: detail.limits["max_open_files"].soft for path, detail in details.items() if detail.limits}
    assert limits == {"/": 1001, B: 1021}


def test_a_proc_that_hides_processes_tells_nothing_of_them(node: Watched) -> None:
    node.end(1)
    assert all(detail.tasks is None and detail.sched is None for detail in node.details().values())


def test_a_cgroup_whose_processes_the_kernel_does_not_list_shows_nothing_and_spoils_no_sum(
    node: Watched,
) -> None:
    node.v2(f"{A}/threaded", without=("cgroup.procs",))  # its threads are those of processes further up
    details = node.details()
    assert f"{A}/threaded" not in details
    assert run_periods(details)[A] == 33


def test_load_averages_take_the_time_from_one_look_to_the_next(node: Watched) -> None:
    first = node.details()[A].tasks
    assert first is not None
    assert (first.running_load, first.uninterruptible_load) == (1.0, 1.0)
    node.ran(11, 11, state="S")
    node.now_seconds += 10.0
    second = node.details()[A].tasks
    assert second is not None
    assert second.running_load == pytest.approx(0.3679, abs=1e-4)
    assert second.uninterruptible_load == pytest.approx(1.0)


def test_more_processes_than_are_looked_at_are_marked_and_count_once(
    node: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MOST_PROCESSES", 2)
    node.pids(B, 20, 21, 11)
    details = node.details()
    assert details[B].open_files == Descriptors(0, 0, open_files_cut=True, sockets_cut=True)
    assert details["/"].open_files == Descriptors(4, 1, open_files_cut=True, sockets_cut=True)
    assert run_periods(details)[B] == 41
    node.pids(B, 11, 20, 21)
    assert run_periods(node.details())[B] == 41 + 11
    node.pids(B, 20, 21, 11)
    assert run_periods(node.details())[B] == 41 + 11


@given(st.binary() | st.lists(st.integers(0, 2**22)).map(lambda pids: "\n".join(map(str, pids)).encode()))
def test_any_bytes_give_pids_or_an_error_with_the_path(data: bytes) -> None:
    try:
        pids = parsed("/cgroup/cgroup.procs", data, processes.parse_pids)
    except MalformedFileError as error:
        assert error.path == "/cgroup/cgroup.procs"  # noqa: PT017 - not raising is as good
    else:
        assert sorted(set(pids)) == sorted(pids)
        assert set(pids) == set(map(int, data.split()))


# When they are read.


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Watched]:
    """A node with four containers, whose processes are read in two ticks."""
    node = Watched(tmp_path / "node", frozenset({"detail.sched"}), interval_ticks=2)
    node.v2("/", cgroup__procs="")
    for number in (1, 2, 3, 4):
        node.v2(f"/{number}", cgroup__procs=f"{number}0\n")
        node.start(number * 10, ran=1)
    yield node
    node.close()


def test_work_is_spread_over_the_ticks_of_its_interval_and_what_is_not_read_stays_the_same(
    many: Watched,
) -> None:
    first = many.details()
    assert run_periods(first) == {"/": 4, "/1": 1, "/2": 1, "/3": 1, "/4": 1}
    for pid in (10, 20, 30, 40):
        many.ran(pid, 5)
    second = many.details()
    assert run_periods(second) == {"/": 8, "/1": 5, "/2": 1, "/3": 1, "/4": 1}  # two of five
    assert [path for path in second if second[path] is first[path]] == ["/2", "/3", "/4"]
    third = many.details()
    assert run_periods(third) == {"/": 20, "/1": 5, "/2": 5, "/3": 5, "/4": 5}
    assert [path for path in third if third[path] is second[path]] == ["/1"]


def test_what_there_is_no_time_for_comes_at_the_next_tick_and_a_sum_waits_until_it_is_whole(
    many: Watched,
) -> None:
    many.step_seconds = 0.5  # of the second that a tick may take: two cgroups
    assert set(many.details()) == {"/1"}  # and the root's own
    assert set(many.details()) == {"/1", "/2", "/3"}
    assert run_periods(many.details()) == {"/": 4, "/1": 1, "/2": 1, "/3": 1, "/4": 1}


def test_a_new_container_is_looked_at_in_its_first_tick(many: Watched) -> None:
    many.details()
    many.v2("/5", cgroup__procs="50\n")
    many.start(50, ran=7)
    details = many.details()
    assert (run_periods(details)["/5"], run_periods(details)["/"]) == (7, 11)


def test_sums_follow_at_once_when_a_cgroup_goes_and_it_is_forgotten(tmp_path: Path) -> None:
    node = Watched(tmp_path / "node", interval_ticks=10)
    make(node)
    assert states(node.details()[A]) == TaskStates(1, 1, 0, 1)
    followed = {each.path: each for each in node.sampler.followed}
    shutil.rmtree(node.cgroup / INSIDE.lstrip("/"))
    details = node.details()  # in which no turn is due
    assert states(details[A]) == TaskStates(1, 1, 0, 0)
    assert run_periods(details)[A] == 33

    reader = DetailReader(
        proc_root=str(node.proc),
        plan=Plan(parts=PROCESS_PARTS),
        monotonic=lambda: 0.0,
        knows_pids=True,
        failed=node.failures.append,
    )
    counts = dict.fromkeys(followed, 1)
    assert {cgroup.path for cgroup in reader.read(followed, counts, {}, ())} == set(followed)
    del followed[INSIDE]
    assert {cgroup.path for cgroup in reader.read(followed, counts, {}, ())} == set(followed)
    node.close()


def test_what_is_the_same_stays_the_same_object(many: Watched) -> None:
    first = many.details()
    for _ in range(4):
        details = many.details()
    assert {path for path in first if details[path] is not first[path]} == set()


# Sockets.


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Watched]:
    """A node with two containers that have networks of their own, and one on the host's."""
    node = Watched(tmp_path / "node", SOCKET_PARTS)
    node.v2("/", cgroup__procs="1\n")
    node.v2("/docker")
    for number, pid, network in ((1, 10, ONE), (2, 20, TWO), (3, 30, HOST)):
        node.v2(container(number), cgroup__procs=f"{pid}\n")
        node.start(pid, network=network)
    for pid, sockets in ((1, 3), (10, 1), (20, 2), (30, 3)):
        tables = {
            "net/tcp": TABLE + LISTENING * sockets,
            "net/tcp6": TABLE,
            "net/udp": TABLE + UDP,
            "net/udp6": TABLE,
            "net/snmp": f"Tcp: RtoMin MaxConn InSegs\nTcp: 200 -1 {pid}\n",
            "net/netstat": "TcpExt: SyncookiesSent\nTcpExt: 4\n",
        }
        write(node.proc / str(pid), tables)
    yield node
    node.close()


def listening(details: dict[str, Detail]) -> dict[str, int]:
    return {path: detail.tcp.v4.listen for path, detail in details.items() if detail.tcp and detail.tcp.v4}


def test_sockets_are_shown_once_for_each_network_by_the_cgroup_that_shows_its_counters(
    networks: Watched,
) -> None:
    details = networks.details()
    assert listening(details) == {"/": 3, A: 1, B: 2}
    udp = details[A].udp
    assert udp is not None
    assert udp.v4 is not None
    assert (udp.v4.sockets, udp.v4.receive_queue_bytes, udp.v4.transmit_queue_bytes) == (1, 16, 1)
    assert details[A].tcp_counters == {"rtomin": 200, "maxconn": -1, "insegs": 10, "syncookiessent": 4}
    assert details[A].tasks is None
    assert networks.failures == []


def test_a_kernel_without_ipv6_has_no_table_of_it(networks: Watched) -> None:
    for table in ("tcp6", "udp6"):
        (networks.proc / "10/net" / table).unlink()
    detail = networks.details()[A]
    assert detail.tcp is not None
    assert detail.udp is not None
    assert (detail.tcp.v6, detail.udp.v6) == (None, None)
    assert detail.tcp.v4 is not None
    assert networks.failures == []


def test_a_table_that_cannot_be_understood_is_a_failure_and_costs_its_own_numbers(networks: Watched) -> None:
    (networks.proc / "10/net/tcp").write_text("what?\n")
    details = networks.details()
    assert listening(details) == {"/": 3, B: 2}
    assert details[A].udp is not None
    assert [failure.path for failure in networks.failures] == [f"{networks.proc}/10/net/tcp"]


def test_a_container_that_shows_no_network_any_more_shows_no_sockets(networks: Watched) -> None:
    assert A in listening(networks.details())
    link = networks.proc / "10/ns/net"
    link.unlink()
    link.symlink_to(f"net:[{HOST}]")
    details = networks.details()
    assert listening(details) == {"/": 3, B: 2}
    assert details[A] == Detail()


def test_a_namespace_whose_process_ended_is_no_failure(networks: Watched) -> None:
    networks.details()
    shutil.rmtree(networks.proc / "10/net")
    assert listening(networks.details()) == {"/": 3, B: 2}
    assert networks.failures == []


def test_networks_are_read_in_turns_and_within_their_time(tmp_path: Path) -> None:
    node = Watched(tmp_path / "node", frozenset({"detail.tcp"}))
    node.v2("/", cgroup__procs="1\n")
    for number in range(1, 6):
        node.v2(f"/{number}", cgroup__procs=f"{number}0\n")
        node.start(number * 10, network=ONE + number)
        write(node.proc / f"{number}0", {"net/tcp": TABLE, "net/tcp6": TABLE})
    write(node.proc / "1", {"net/tcp": TABLE, "net/tcp6": TABLE})
    node.step_seconds = 0.4  # of a second: three of them
    assert len(node.details()) == 3
    assert len(node.details()) == 6
    node.close()
