"""The highest usage where the kernel does not keep it: cgroup v2 before 5.19."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup.memory import MemoryStats
from cgwatch.sampling.peak import OwnPeak
from tests.cgroup.fake_trees import Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@given(st.lists(st.none() | st.integers(0, 1 << 50)))
def test_the_peak_is_the_highest_usage_so_far(usages: list[int | None]) -> None:
    own = OwnPeak()
    highest: int | None = None
    for usage in usages:
        if usage is not None:
            highest = usage if highest is None else max(highest, usage)
        said = MemoryStats(usage_bytes=usage)
        assert own.complete(said) == structs.replace(said, peak_bytes=highest, peak_is_sampled=True)


def test_what_did_not_change_stays_the_very_same_object() -> None:
    own, said = OwnPeak(), MemoryStats(usage_bytes=1)

    assert own.complete(said) is own.complete(said)
    assert own.complete(None) is None


@pytest.fixture(params=[0, 100], ids=["opened each time", "kept open"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, budget=request.param)
    node.v2("/")
    try:
        yield node
    finally:
        node.close()


def memory_of(node: Node, path: str) -> MemoryStats:
    memory = node.samples()[path].memory
    assert memory is not None
    return memory


def make(node: Node, usage_bytes: int) -> Path:
    return node.v2("/a", without=("memory.peak",), memory__current=f"{usage_bytes}\n")


def test_without_the_kernels_peak_the_highest_sample_is_shown(node: Node) -> None:
    directory = make(node, 100)
    (node.proc / "sys/kernel/osrelease").write_text("5.15.0\n")
    seen = []
    for usage_bytes in (100, 300, 200):
        (directory / "memory.current").write_text(f"{usage_bytes}\n")
        memory = memory_of(node, "/a")
        assert memory.peak_is_sampled
        seen.append((memory.usage_bytes, memory.peak_bytes))

    assert seen == [(100, 100), (300, 300), (200, 300)]
    assert node.failures == []


def test_a_cgroup_made_again_under_its_path_begins_anew(node: Node) -> None:
    directory = make(node, 300)
    before = node.samples()["/a"]
    assert before.memory is not None
    assert before.memory.peak_bytes == 300
    directory.rename(node.cgroup.parent / "away")  # its inode is not free for the next one
    make(node, 100)

    after = node.samples()
    after = after if "/a" in after else node.samples()
    memory = after["/a"].memory

    assert after["/a"].container.cgroup.inode != before.container.cgroup.inode
    assert memory is not None
    assert memory.peak_bytes == 100


def test_the_kernels_own_peak_is_shown_as_it_is(node: Node) -> None:
    node.v2("/a", memory__current="900\n", memory__peak="1000\n")

    memory = memory_of(node, "/a")

    assert (memory.peak_bytes, memory.peak_is_sampled) == (1000, False)


def test_a_peak_that_cannot_be_read_once_is_not_replaced(node: Node) -> None:
    directory = node.v2("/a", memory__current="900\n", memory__peak="1000\n")
    memory_of(node, "/a")
    (directory / "memory.peak").write_text("what?\n")

    assert memory_of(node, "/a").peak_bytes is None


def test_the_root_has_no_peak(node: Node) -> None:
    assert memory_of(node, "/").peak_bytes is None
