"""While nothing happens in a cgroup, few of its files are read; whatever happens is told at the next tick."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgwatch.cgroup import files
from cgwatch.model import Sample
from tests.cgroup.fake_trees import Node

ID = "0123456789abcdef" * 4
PATH = f"/docker/{ID}"
ROUND_TICKS = 6
"""All of an idle cgroup's files are read whenever its settings are: every 30 s, at 5 s a tick."""


@pytest.fixture
def v2(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, budget=10_000)
    for path in ("/", "/docker", PATH):
        node.v2(path)
    yield node
    node.close()


def settle(node: Node) -> Sample:
    for _ in range(ROUND_TICKS + 3):
        sample = node.samples()[PATH]
    return sample


def rewrite(node: Node, name: str, change: Callable[[str], str]) -> None:
    """Change a file's text in place: the descriptor stays open."""
    file = node.cgroup / PATH.lstrip("/") / name
    file.write_text(change(file.read_text()))


def reads(node: Node, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give the number of reads of the container's files in one tick."""
    mine = f"{node.cgroup}{PATH}/"
    seen: list[str] = []

    def counting(fd: int, size: int, offset: int) -> bytes:
        seen.append(os.readlink(f"/proc/self/fd/{fd}"))
        return os.pread(fd, size, offset)

    with monkeypatch.context() as patched:
        patched.setattr(files, "pread", counting)
        node.samples()
    return sum(1 for path in seen if path.startswith(mine))


def test_while_nothing_happens_few_files_are_read_and_the_sample_is_of_the_same_parts(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = v2.samples()[PATH]
    all_of_them = reads(v2, monkeypatch)
    before = settle(v2)
    idle = sorted(reads(v2, monkeypatch) for _ in range(ROUND_TICKS))

    assert idle[-2] < all_of_them / 2  # in all ticks but one
    assert idle[-1] >= all_of_them - 1  # and the settings; what v1 alone reads is not there
    after = v2.samples()[PATH]
    assert (after.memory, after.cpu, after.io) == (first.memory, first.cpu, first.io)
    assert after.memory is before.memory
    assert after.core is before.core
    assert v2.failures == []


@pytest.mark.parametrize(
    ("pulse", "old", "new"),
    [
        ("cpu.stat", "usage_usec 1500000", "usage_usec 1500001"),
        ("memory.current", "4096", "8192"),
        ("io.stat", "rbytes=", "rbytes=9"),
        ("pids.current", "3", "4"),
        ("cgroup.events", "populated 1", "populated 0"),
    ],
)
def test_whatever_happens_in_an_idle_cgroup_is_told_with_all_its_numbers_at_the_next_tick(
    v2: Node, pulse: str, old: str, new: str
) -> None:
    settle(v2)
    rewrite(v2, pulse, lambda text: text.replace(old, new, 1))
    rewrite(v2, "memory.events", lambda text: text.replace("oom_kill 1", "oom_kill 7"))
    assert new in (v2.cgroup / PATH.lstrip("/") / pulse).read_text()

    sample = v2.samples()[PATH]

    assert sample.memory is not None
    assert sample.memory.events.oom_kill == 7


def test_what_the_kernel_does_to_an_idle_cgroup_is_told_with_the_settings(v2: Node) -> None:
    before = settle(v2)
    rewrite(v2, "memory.events", lambda text: text.replace("oom_kill 1", "oom_kill 7"))

    seen = [v2.samples()[PATH].memory for _ in range(ROUND_TICKS)]

    assert seen[-1] is not None
    assert seen[-1].events.oom_kill == 7
    assert sum(memory is before.memory for memory in seen) in range(ROUND_TICKS)


def test_an_idle_cgroup_that_is_removed_is_gone_at_the_next_tick(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(v2)
    shutil.rmtree(v2.cgroup / PATH.lstrip("/"))

    def gone(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(" (deleted)"):
            raise OSError(19, "No such device")  # as the kernel has it
        return os.pread(fd, size, offset)

    monkeypatch.setattr(files, "pread", gone)

    assert PATH not in v2.samples()
    assert v2.failures == []


def test_a_file_that_cannot_be_read_is_counted_once_a_tick_though_its_cgroup_was_idle(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(v2)

    def broken(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"{ID}/memory.current"):
            raise OSError(5, "Input/output error")
        return os.pread(fd, size, offset)

    monkeypatch.setattr(files, "pread", broken)
    sample = v2.samples()[PATH]

    assert sample.memory is not None
    assert sample.memory.usage_bytes is None
    assert sample.memory.events.oom_kill == 1
    assert len(v2.failures) == 1


def test_without_kept_descriptors_everything_is_read_at_each_tick(tmp_path: Path) -> None:
    node = Node(tmp_path, budget=0)
    for path in ("/", "/docker", PATH):
        node.v2(path)
    settle(node)
    rewrite(node, "memory.events", lambda text: text.replace("oom_kill 1", "oom_kill 7"))

    sample = node.samples()[PATH]

    assert sample.memory is not None
    assert sample.memory.events.oom_kill == 7
    node.close()


@pytest.mark.parametrize("ticks", range(ROUND_TICKS + 2))
def test_files_that_are_kept_again_are_never_those_of_another_cgroup_of_the_same_path(
    tmp_path: Path, ticks: int
) -> None:
    node = Node(tmp_path / "node", budget=0)
    # With as many cgroups as before, nothing but an answer of a descriptor tells whether they are the same.
    node.v2("/", cgroup__stat="nr_descendants 2\nnr_dying_descendants 0\n")
    for path in ("/docker", PATH):
        node.v2(path)
    for _ in range(ticks + 1):
        before = node.samples()[PATH].container.cgroup
    (node.cgroup / PATH.lstrip("/")).rename(tmp_path / "gone")
    made = node.v2(PATH, memory__current="12288\n")
    node.descriptors.budget = 10_000

    for _ in range(3):
        found = node.samples().get(PATH)
        if found is not None:
            assert found.container.cgroup.inode == made.stat().st_ino != before.inode
            assert found.memory is not None
            assert found.memory.usage_bytes == 12288
    assert found is not None
    assert node.failures == []
    node.close()
