"""What is read of processes and sockets, of real processes in real cgroups of this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.proc.states import TaskStates
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Detail
    from tests.conftest import V1Cgroups

pytestmark = pytest.mark.real

PROCESS_PARTS = frozenset({"detail.tasks", "detail.sched", "detail.open_files", "detail.limits"})
SOCKET_PARTS = frozenset({"detail.tcp", "detail.udp", "detail.tcp_counters"})
DEADLINE_SECONDS = 30.0

HOLDER = """
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (321, 654))
sockets = [socket.socket() for _ in range(5)]
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
print("ready", flush=True)
input()
"""
# Makes its own network namespace with one interface, on which it listens, and talks to itself.
NETWORK = """
import array, ctypes, fcntl, os, socket, struct
assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0, os.strerror(ctypes.get_errno())
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(udp, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
udp.bind(("127.0.0.1", 0))
udp.sendto(b"never read", udp.getsockname())
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
accepted, _ = server.accept()
print("ready", flush=True)
input()
"""


class Machine:
    """A sampler of this machine that looks at everything at each tick, seen where one test's cgroups are."""

    def __init__(self, mine: str, parts: frozenset[str]) -> None:
        self.mine = f"/{mine}"
        self._failures: list[KernelFileError] = []
        self.sampler = Sampler(
            hierarchy.find("/proc", None),
            proc_root="/proc",
            descriptors=Descriptors(0),
            # An interval so long that a fifth of it is time enough on any machine.
            plan=Plan(60.0, processes_seconds=60.0, sockets_seconds=60.0, parts=parts),
            clock=time.time,
            monotonic=time.monotonic,
            failed=self._failures.append,
        )

    def details(self) -> dict[str, Detail]:
        """Tick, and return what there is by path below the test's own cgroup."""
        return {
            sample.container.cgroup.path.removeprefix(self.mine): sample.detail
            for sample in self.sampler.sample(0).samples
            if sample.container.cgroup.path.startswith(self.mine) and sample.detail
        }

    @property
    def failures(self) -> list[KernelFileError]:
        """Failures at files of processes or of our own cgroups; others may come and go as they like."""
        return [
            failure for failure in self._failures if self.mine in failure.path or "/proc/" in failure.path
        ]


@pytest.fixture
def machine(request: pytest.FixtureRequest, v1_cgroups: V1Cgroups) -> Iterator[Machine]:
    machine = Machine(v1_cgroups.name, getattr(request, "param", PROCESS_PARTS))
    yield machine
    machine.sampler.close()


def states(detail: Detail) -> TaskStates:
    assert detail.tasks is not None
    return detail.tasks.states


def test_states_of_real_tasks_are_told_and_added_up(machine: Machine, v1_cgroups: V1Cgroups) -> None:
    first, second = v1_cgroups.make("a"), v1_cgroups.make("a/b")
    assert machine.details()["/a"].sched is not None
    v1_cgroups.start(first, command=("sh", "-c", "while :; do :; done"))
    stopped = v1_cgroups.start(first)
    v1_cgroups.start(second, command=(sys.executable, "-c", HOLDER))
    stopped.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
    deadline_seconds = time.monotonic() + DEADLINE_SECONDS
    while states(machine.details()["/a/b"]) != TaskStates(sleeping=1):  # it blocks in input() in the end
        assert time.monotonic() < deadline_seconds
    details = machine.details()
    assert states(details["/a"]) == TaskStates(sleeping=1, running=1, stopped=1)
    assert states(details[""]) == states(details["/a"])
    tasks = details["/a"].tasks
    assert tasks is not None
    assert 0 < tasks.running_load <= 2
    assert tasks.uninterruptible_load < 1
    assert machine.failures == []


def test_open_files_sockets_and_the_limit_of_a_real_process_are_told(
    machine: Machine, v1_cgroups: V1Cgroups
) -> None:
    holder = v1_cgroups.start(v1_cgroups.make("a"), command=(sys.executable, "-W", "ignore", "-c", HOLDER))
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    links = [os.readlink(f"/proc/{holder.pid}/fd/{name}") for name in os.listdir(f"/proc/{holder.pid}/fd")]
    details = machine.details()
    for path in ("", "/a"):
        found = details[path].open_files
        assert found is not None
        assert (found.open_files, found.sockets) == (len(links), sum("socket:[" in link for link in links))
        assert found.sockets >= 5
    limits = details["/a"].limits
    assert limits is not None
    assert {name: (limit.soft, limit.hard) for name, limit in limits.items()} == {
        "max_open_files": (321, 654)
    }
    assert details[""].limits is None


def test_counters_of_real_processes_grow_and_do_not_go_down_when_one_is_killed(
    machine: Machine, v1_cgroups: V1Cgroups
) -> None:
    first, second = v1_cgroups.make("a"), v1_cgroups.make("b")
    busy = v1_cgroups.start(first, command=("sh", "-c", "while :; do :; done"))
    v1_cgroups.start(second)
    before = machine.details()[""].sched
    assert before is not None
    assert before.run_periods_total >= 2
    deadline_seconds = time.monotonic() + DEADLINE_SECONDS
    while True:
        after = machine.details()[""].sched
        assert after is not None
        if after.run_seconds > before.run_seconds + 0.05:
            break
        assert time.monotonic() < deadline_seconds, "a busy process did not run"
    v1_cgroups.end(busy)
    details = machine.details()
    for path, least in (("", after), ("/a", None), ("/b", None)):
        now = details[path].sched
        assert now is not None
        assert least is None or now.run_seconds >= least.run_seconds
        assert least is None or now.runqueue_seconds >= least.runqueue_seconds
        assert now.run_periods_total >= (least.run_periods_total if least else 1)
    v1_cgroups.remove(first)
    gone = machine.details()
    assert "/a" not in gone
    assert gone[""].sched == details[""].sched
    assert machine.failures == []


@pytest.mark.parametrize("machine", [SOCKET_PARTS], ids=["sockets"], indirect=True)
def test_sockets_of_a_real_network_namespace_are_told(machine: Machine, v1_cgroups: V1Cgroups) -> None:
    require(None if os.geteuid() == 0 else "needs root to make a network namespace")
    process = v1_cgroups.start(v1_cgroups.make("a"), command=(sys.executable, "-c", NETWORK))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    details = machine.details()
    assert list(details) == ["/a"]
    detail = details["/a"]
    assert detail.tcp is not None
    assert detail.tcp.v4 is not None
    assert (detail.tcp.v4.listen, detail.tcp.v4.established) == (1, 2)
    assert detail.udp is not None
    assert detail.udp.v4 is not None
    assert (detail.udp.v4.sockets, detail.udp.v4.transmit_queue_bytes) == (1, 0)
    assert detail.udp.v4.receive_queue_bytes > len("never read")
    assert detail.tcp_counters is not None
    assert (detail.tcp_counters["activeopens"], detail.tcp_counters["currestab"]) == (1, 2)
    assert machine.failures == []
