from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError, NotSupportedError
from cgwatch.proc import namespaces, network
from cgwatch.proc.namespaces import Candidate, network_owners
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

KERNEL_6_18_STAT = (
    b"5833 (cat) R 5824 5824 4023 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 90534 3133440 390 "
    b"18446744073709551615 94063779045376 94063779065257 140728500026880 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 "
    b"94063779081264 94063779082880 94064451108864 140728500029941 140728500029961 140728500029961 "
    b"140728500031467 0\n"
)

HOST = 4026531840
POD = 4026532201
ROOT = "/"


@pytest.fixture
def process_in_a_network_of_its_own() -> Iterator[int]:
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready:
            process.wait()
            pytest.skip("needs the right to make a network namespace")
        yield process.pid
        process.stdin.close()


def test_a_captured_link_gives_the_inode(tmp_path: Path) -> None:
    (tmp_path / "7" / "ns").mkdir(parents=True)
    (tmp_path / "7" / "ns" / "net").symlink_to("net:[4026531840]")
    assert namespaces.network_namespace(str(tmp_path), 7) == HOST


@pytest.mark.parametrize("kind", ["net", "mnt", "pid", "uts", "ipc", "user", "cgroup", "pid_for_children"])
def test_the_inode_is_that_of_the_namespace(kind: str) -> None:
    expected = Path(f"/proc/self/ns/{kind}").stat().st_ino
    assert namespaces.namespace("/proc", os.getpid(), kind) == expected


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/ns/net"):
        namespaces.network_namespace(str(tmp_path), 7)


def test_a_captured_file_in_place_of_the_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "7" / "ns").mkdir(parents=True)
    (tmp_path / "7" / "ns" / "net").write_text("net:[1]")
    with pytest.raises(NotSupportedError, match="/7/ns/net"):
        namespaces.network_namespace(str(tmp_path), 7)


@given(st.binary() | st.binary().map(lambda inner: b"net:[" + inner + b"]"))
def test_any_link_gives_an_inode_or_an_error_with_the_path(link: bytes) -> None:
    parse = functools.partial(namespaces.parse_namespace, kind="net")
    try:
        inode = parsed("/proc/7/ns/net", link, parse)
    except MalformedFileError as error:
        assert error.path == "/proc/7/ns/net"  # noqa: PT017 - not raising is as good
    else:
        assert link.startswith(b"net:[")
        assert inode >= 0


def test_a_link_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a namespace of kind net"):
        namespaces.parse_namespace(b"mnt:[4026531840]", "net")


@pytest.mark.real
def test_a_network_of_its_own_is_another_namespace_with_its_own_interfaces(
    process_in_a_network_of_its_own: int,
) -> None:
    pid = process_in_a_network_of_its_own
    assert namespaces.network_namespace("/proc", pid) != namespaces.network_namespace("/proc", os.getpid())
    interfaces = network.read_net_dev("/proc", pid)
    assert "lo" in [interface.name for interface in interfaces]
    assert all(interface.receive_bytes_total == 0 for interface in interfaces)


def test_the_start_is_the_22nd_field() -> None:
    assert namespaces.parse_start_ticks(KERNEL_6_18_STAT) == 90534


@given(st.binary(max_size=15))
def test_a_command_may_hold_anything(command: bytes) -> None:
    stat = KERNEL_6_18_STAT.replace(b"(cat)", b"(" + command + b")")
    assert namespaces.parse_start_ticks(stat) == 90534


@given(st.binary() | st.binary().map(KERNEL_6_18_STAT[:60].__add__))
def test_any_stat_gives_a_start_or_an_error_with_the_path(data: bytes) -> None:
    try:
        ticks = parsed("/proc/7/stat", data, namespaces.parse_start_ticks)
    except MalformedFileError as error:
        assert error.path == "/proc/7/stat"  # noqa: PT017 - not raising is as good
    else:
        assert ticks >= 0


def test_a_child_starts_no_earlier_than_its_parent() -> None:
    parent = namespaces.start_ticks("/proc", os.getpid())
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert namespaces.start_ticks("/proc", child.pid) >= parent > 0


def container(key: str, order: int, namespace: int = POD) -> Candidate[str]:
    return Candidate(key=key, pid=order, namespace=namespace, is_container=True, created_order=order)


def plain(key: str, order: int, namespace: int = POD) -> Candidate[str]:
    return Candidate(key=key, pid=order, namespace=namespace, is_container=False, created_order=order)


def owners(
    *candidates: Candidate[str], previous: dict[int, Candidate[str]] | None = None
) -> dict[int, Candidate[str]]:
    return network_owners(candidates, host_namespace=HOST, root=ROOT, previous=previous or {})


def test_the_pause_container_owns_the_network_of_its_pod() -> None:
    pause, first, second = container("pause", 1), container("first", 2), container("second", 3)
    assert owners(second, first, pause) == {POD: pause}


def test_a_container_comes_before_the_cgroup_around_it() -> None:
    pod, pause = plain("pod", 1), container("pause", 2)
    assert owners(pod, pause) == {POD: pause}


def test_a_network_without_containers_belongs_to_the_first_cgroup() -> None:
    assert owners(plain("late.service", 5), plain("early.service", 4)) == {POD: plain("early.service", 4)}


def test_the_hosts_network_is_the_roots_and_no_containers() -> None:
    root = plain(ROOT, 1, namespace=HOST)
    assert owners(container("host-network", 2, namespace=HOST), root) == {HOST: root}
    assert owners(container("host-network", 2, namespace=HOST)) == {}


def test_where_the_hosts_namespace_cannot_be_known_it_is_still_counted_once() -> None:
    first, second = container("first", 1, namespace=HOST), container("second", 2, namespace=HOST)
    assert network_owners([second, first], host_namespace=None, root=ROOT, previous={}) == {HOST: first}


def test_an_owner_stays_when_an_earlier_cgroup_turns_up() -> None:
    before = owners(container("second", 2))
    after = owners(container("first", 1), container("second", 2), previous=before)
    assert after == {POD: container("second", 2)}


def test_an_owner_that_left_the_namespace_is_followed_by_the_next() -> None:
    before = owners(container("first", 1), container("second", 2))
    moved = container("first", 1, namespace=POD + 1)
    after = owners(moved, container("second", 2), previous=before)
    assert after == {POD: container("second", 2), POD + 1: moved}


def test_an_owner_is_read_through_the_process_it_has_now() -> None:
    before = owners(Candidate(key="a", pid=10, namespace=POD, is_container=True, created_order=1))
    now = Candidate(key="a", pid=20, namespace=POD, is_container=True, created_order=1)
    assert owners(now, previous=before) == {POD: now}


@st.composite
def ticks(draw: st.DrawFn) -> list[Candidate[str]]:
    keys = draw(st.lists(st.sampled_from([ROOT, "a", "b", "c", "d", "e"]), unique=True))
    return [
        Candidate(
            key=key,
            pid=1,
            namespace=draw(st.sampled_from([HOST, POD, POD + 1])),
            is_container=key in {"b", "d"},
            created_order="/abcde".index(key),
        )
        for key in keys
    ]


@given(st.lists(ticks()))
def test_each_namespace_is_counted_exactly_once_however_many_share_it(
    history: list[list[Candidate[str]]],
) -> None:
    previous: dict[int, Candidate[str]] = {}
    for candidates in history:
        previous = network_owners(candidates, host_namespace=HOST, root=ROOT, previous=previous)
        eligible = [one for one in candidates if one.namespace != HOST or one.key == ROOT]
        assert previous.keys() == {one.namespace for one in eligible}
        assert all(owner in eligible and owner.namespace == space for space, owner in previous.items())
        keys = [owner.key for owner in previous.values()]
        assert len(keys) == len(set(keys))


@given(st.lists(ticks()))
def test_an_owner_does_not_change_while_it_stays(history: list[list[Candidate[str]]]) -> None:
    previous: dict[int, Candidate[str]] = {}
    for candidates in history:
        now = network_owners(candidates, host_namespace=HOST, root=ROOT, previous=previous)
        for namespace, owner in previous.items():
            if any(one.key == owner.key and one.namespace == namespace for one in candidates):
                assert now[namespace].key == owner.key
        previous = now


@given(ticks(), st.randoms())
def test_the_order_of_the_candidates_does_not_matter(
    candidates: list[Candidate[str]],
    random: Random,
) -> None:
    shuffled = random.sample(candidates, len(candidates))
    assert owners(*shuffled) == owners(*candidates)
