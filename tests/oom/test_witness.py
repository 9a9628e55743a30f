from __future__ import annotations

from collections.abc import Iterable

from cgwatch.oom import witness
from cgwatch.oom.witness import KEPT_SECONDS, Witness


class Joins:
    def __init__(self) -> None:
        self.told: list[tuple[str, list[int]]] = []
        self.followed: set[str] = set()
        self.there: dict[str, list[int]] = {}

    def fileno(self) -> int:
        return -1

    def follow(self, paths: Iterable[str]) -> None:
        self.followed |= set(paths)

    def take(self, paths: Iterable[str]) -> list[tuple[str, list[int]]]:
        told, self.told = self.told, []
        return told + [(path, self.there[path]) for path in paths]


class Scene:
    """A witness, and the clock that it goes by."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.joins = Joins()
        self.witness = Witness(self.joins, lambda: self.now)

    def joins_now(self, path: str, *pids: int) -> None:
        self.joins.told.append((path, list(pids)))
        self.witness.look()


def test_a_process_was_where_it_was_seen_last() -> None:
    scene = Scene()
    scene.joins_now("/a", 1, 2)
    scene.joins_now("/b", 2)

    assert [scene.witness.path_of(pid) for pid in (1, 2, 3)] == ["/a", "/b", None]


def test_who_was_born_in_a_cgroup_is_seen_when_something_happens_there() -> None:
    scene = Scene()
    scene.joins.there["/a"] = [1, 2]
    scene.witness.look(["/a"])

    assert scene.witness.path_of(2) == "/a"


def test_what_was_seen_is_believed_for_a_while_since_ids_are_used_again() -> None:
    scene = Scene()
    scene.joins_now("/a", 1)
    scene.now += KEPT_SECONDS
    assert scene.witness.path_of(1) == "/a"
    scene.now += 0.1
    assert scene.witness.path_of(1) is None
    scene.joins_now("/b", 2)
    assert set(scene.witness._seen) == {2}


def test_a_process_that_is_seen_again_is_remembered_from_then_on() -> None:
    scene = Scene()
    scene.joins_now("/a", 1)
    scene.now += KEPT_SECONDS - 1
    scene.joins_now("/a", 1, 2)
    scene.now += KEPT_SECONDS - 1

    assert scene.witness.path_of(1) == "/a"


def test_however_many_join_a_bounded_number_is_remembered() -> None:
    scene = Scene()
    scene.joins_now("/a", *range(1, witness._MOST + 100))

    assert len(scene.witness._seen) == witness._MOST
    assert scene.witness.path_of(1) is None
    assert scene.witness.path_of(witness._MOST + 99) == "/a"


def test_a_path_is_spelled_as_the_kernels_log_has_it() -> None:
    scene = Scene()
    scene.joins_now("/odd\udcff", 1)

    assert scene.witness.path_of(1) == "/odd\\xff"
