from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cgwatch.errors import AccessDeniedError, MalformedFileError
from cgwatch.model import Description, Runtime
from cgwatch.proc.namespaces import network_namespace
from cgwatch.sampling.network import NetworkReader
from tests.cgroup.fake_trees import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cgwatch.model import Sample

HOST = 4026531840
ONE, TWO = 4026532201, 4026532305


def container(number: int) -> str:
    return f"/docker/{number:064x}"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with two containers, in network namespaces of their own."""
    node = Node(tmp_path / "node")
    node.v2("/", cgroup__procs="1\n2\n")
    node.process(1, HOST, receive_bytes=1000)
    node.v2("/docker")
    node.v2(container(1), cgroup__procs="10\n11\n")
    node.process(10, ONE, receive_bytes=10)
    node.v2(container(2), cgroup__procs="20\n")
    node.process(20, TWO, receive_bytes=20)
    yield node
    node.close()


def received(samples: dict[str, Sample]) -> dict[str, int]:
    """Return the bytes of each cgroup that has counters of its own."""
    return {
        path: sum(interface.receive_bytes_total for interface in sample.network)
        for path, sample in samples.items()
        if sample.network is not None
    }


def test_each_network_of_its_own_is_shown_by_its_container_and_the_hosts_by_the_root(node: Node) -> None:
    assert received(node.samples()) == {"/": 1000, container(1): 10, container(2): 20}
    assert node.failures == []


def test_a_network_that_is_shared_is_shown_once_by_the_container_that_was_first(node: Node) -> None:
    node.v2(container(3), cgroup__procs="30\n")
    node.process(30, ONE, receive_bytes=10)
    samples = node.samples()
    inodes = {number: samples[container(number)].container.cgroup.inode for number in (1, 3)}
    first = min(inodes, key=lambda number: inodes[number])
    assert received(samples) == {"/": 1000, container(first): 10, container(2): 20}
    assert received(node.samples()) == received(samples)


def test_a_container_on_the_hosts_network_has_no_counters_of_its_own(node: Node) -> None:
    node.v2(container(3), cgroup__procs="30\n")
    node.process(30, HOST, receive_bytes=1000)
    samples = node.samples()
    assert container(3) not in received(samples)
    assert samples[container(3)].network is None
    assert received(samples)["/"] == 1000


def test_a_kernel_thread_tells_the_hosts_network_where_init_may_not_be_looked_at(node: Node) -> None:
    (node.proc / "1/ns/net").unlink()
    node.process(2, HOST)
    (node.proc / "2/comm").write_text("kthreadd\n")
    assert received(node.samples()) == {"/": 1000, container(1): 10, container(2): 20}


def test_without_the_right_to_look_at_a_process_its_counters_are_absent_and_nothing_failed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(proc_root: str, pid: int) -> int:
        if pid == 10:
            raise AccessDeniedError(f"{proc_root}/{pid}/ns/net", "Permission denied", 13)
        return network_namespace(proc_root, pid)

    monkeypatch.setattr("cgwatch.sampling.network.network_namespace", refuse)
    assert received(node.samples()) == {"/": 1000, container(2): 20}
    assert node.failures == []


def test_without_the_hosts_namespace_no_container_is_told_from_the_host_and_the_root_still_shows_its_own(
    node: Node,
) -> None:
    (node.proc / "1/ns/net").unlink()
    assert received(node.samples()) == {"/": 1000}
    assert node.failures == []


def test_a_process_that_ended_costs_its_own_counters_alone(node: Node) -> None:
    shutil.rmtree(node.proc / "10")
    assert received(node.samples()) == {"/": 1000, container(2): 20}
    assert node.failures == []


def test_a_malformed_file_is_a_counted_failure_with_its_path(node: Node) -> None:
    (node.proc / "10/net/dev").write_text("what?\n")
    assert received(node.samples()) == {"/": 1000, container(2): 20}
    assert [(type(failure), failure.path) for failure in node.failures] == [
        (MalformedFileError, f"{node.proc}/10/net/dev")
    ]


def test_a_container_whose_processes_are_all_further_down_is_spoken_for_by_one_of_those(node: Node) -> None:
    (node.cgroup / container(1).lstrip("/") / "cgroup.procs").write_text("")
    node.v2(f"{container(1)}/init.scope", cgroup__procs="10\n")
    assert received(node.samples())[container(1)] == 10


def test_where_pids_cannot_be_told_the_runtimes_word_counts(node: Node) -> None:
    # The agent runs in a pid namespace of its own: each process of the container reads as 0.
    (node.cgroup / container(1).lstrip("/") / "cgroup.procs").write_text("0\n0\n")
    assert container(1) not in received(node.samples())
    identity = container(1).rpartition("/")[2]
    said = Description(Runtime.DOCKER, identity, "shop", "image:1", {}, "running", pid=10)
    node.sampler.describe({identity: said})
    assert received(node.samples())[container(1)] == 10


def test_the_owner_of_a_shared_network_stays_the_same_until_it_goes(node: Node) -> None:
    node.v2(container(3), cgroup__procs="30\n")
    node.process(30, ONE, receive_bytes=10)
    owner = next(path for path, count in received(node.samples()).items() if count == 10)
    (other,) = {container(1), container(3)} - {owner}
    assert received(node.samples())[owner] == 10
    shutil.rmtree(node.cgroup / owner.lstrip("/"))
    assert received(node.samples()) == {"/": 1000, other: 10, container(2): 20}


def test_interfaces_that_would_count_traffic_twice_are_left_out(node: Node) -> None:
    text = (node.proc / "1/net/dev").read_text()
    line = text.splitlines()[-1]
    extra = "\n".join(line.replace("eth0", name) for name in ("lo", "veth12", "docker0"))
    (node.proc / "1/net/dev").write_text(f"{text}{extra}\n")
    assert received(node.samples())["/"] == 1000


def test_links_of_namespaces_are_what_this_kernel_says() -> None:
    ours = os.stat("/proc/self/ns/net").st_ino
    done = subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
    assert done.stdout == f"net:[{ours}]\n"


def test_the_owners_are_told_with_the_processes_that_were_read(node: Node) -> None:
    reader = NetworkReader(str(node.proc))
    assert list(reader.owners) == []
    containers = [sample.container for sample in node.tick().samples]
    pids = {"/": 1, container(1): 10, container(2): 20}
    processes = [(each, pids[each.cgroup.path]) for each in containers if each.cgroup.path in pids]
    reader.read(processes, [])
    assert {owner.key.path: owner.pid for owner in reader.owners} == pids
