from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import numa
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.numa import PAGE_BYTES, NumaPages
from tests.cgroup.fake_trees import TREES

COUNTS = st.integers(0, 1 << 40)
NODES = st.dictionaries(st.integers(0, 1023), COUNTS, min_size=1)
KINDS = ("file", "anon", "unevictable")


def line(key: str, nodes: dict[int, int], unit: int = 1, *, total: bool) -> str:
    head = f"{key}={sum(nodes.values())}" if total else key
    return " ".join([head, *(f"N{node}={pages * unit}" for node, pages in nodes.items())]) + "\n"


def pages(numbers: dict[str, dict[int, int]]) -> tuple[NumaPages, ...]:
    return tuple(NumaPages(kind, node, count) for kind in KINDS for node, count in numbers[kind].items())


@given(st.fixed_dictionaries(dict.fromkeys(KINDS, NODES)), st.fixed_dictionaries(dict.fromkeys(KINDS, NODES)))
def test_v1_tells_the_pages_of_the_cgroup_from_those_of_its_subtree(
    own: dict[str, dict[int, int]], whole: dict[str, dict[int, int]]
) -> None:
    text = line("total", {0: 1}, total=True) + "".join(line(kind, own[kind], total=True) for kind in KINDS)
    text += "".join(line(f"hierarchical_{kind}", whole[kind], total=True) for kind in KINDS)

    assert numa.parse_v1(text.encode()) == numa.NumaStats(pages(own), pages(whole))


def test_v1_before_the_hierarchical_lines_tells_of_the_cgroup_alone() -> None:
    raw = b"total=7 N0=3 N1=4\nfile=7 N0=3 N1=4\nanon=0 N0=0 N1=0\nunevictable=0 N0=0 N1=0\n"

    found = numa.parse_v1(raw)

    assert found.own[:2] == (NumaPages("file", 0, 3), NumaPages("file", 1, 4))
    assert found.hierarchical == ()


@given(st.fixed_dictionaries(dict.fromkeys(KINDS, NODES)))
def test_v2_tells_the_bytes_of_the_subtree_which_become_pages(numbers: dict[str, dict[int, int]]) -> None:
    text = "".join(line(kind, numbers[kind], PAGE_BYTES, total=False) for kind in ("anon", "file"))
    text += line("kernel_stack", {0: 16384}, total=False)
    text += line("unevictable", numbers["unevictable"], PAGE_BYTES, total=False)

    assert numa.parse_v2(text.encode()) == numa.NumaStats(hierarchical=pages(numbers))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\n", b"file", b"file=1 N0=1", b"file=x N0=1\n", b"file=1 N0\n", b"file=1 N0=-1\n"),
        *(b"file=1 0=1\n", b"file=1 N0=1\n\n", b"file=1  N0=1\n", b"file=1 N0=" + b"9" * 400 + b"\n"),
    ],
)
def test_what_is_no_numa_stat_of_v1_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        numa.parse_v1(raw)


def test_the_two_versions_do_not_read_each_others_file() -> None:
    with pytest.raises(FormatError):
        numa.parse_v2(b"file=1 N0=1\n")
    with pytest.raises(FormatError):
        numa.parse_v1(b"file N0=4096\n")


CAPTURED = sorted(TREES.glob("*/cgroup/**/memory.numa_stat"))


def test_there_are_captured_files() -> None:
    assert {"docker_v1", "hybrid", "kubernetes_containerd_v2_systemd"} <= {
        path.relative_to(TREES).parts[0] for path in CAPTURED
    }


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: str(path.relative_to(TREES))[:60])
def test_every_captured_file_says_something_of_each_kind(path: Path) -> None:
    raw = path.read_bytes()
    found = numa.parse_v1(raw) if b"=" in raw.split()[0] else numa.parse_v2(raw)

    assert [each.kind for each in found.hierarchical] == list(KINDS)  # the machines had one node
