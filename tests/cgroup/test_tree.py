from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cgwatch.cgroup import controllers, hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy, Layout
from cgwatch.cgroup.tree import HierarchyTree, Tree
from cgwatch.errors import FileMissingError, KernelFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.conftest import V1Cgroups


class FakeCounter:
    """Says what it is told to say; ``None``: does not know."""

    def __init__(self, value: Callable[[], int | None]) -> None:
        self.value = value
        self.closed = False

    def count(self) -> int | None:
        return self.value()

    def close(self) -> None:
        self.closed = True


def unified(directory: Path) -> Hierarchy:
    return Hierarchy(2, frozenset({"memory"}), os.fspath(directory))


def walked(directory: Path) -> dict[str, int]:
    """Return every directory by its path from the root, with its inode."""
    found = {}
    for here, _, _ in os.walk(directory):
        path = here.removeprefix(os.fspath(directory)) or "/"
        found[path] = os.stat(here).st_ino
    return found


class FollowedTree:
    """A tree of plain directories, and what the tree module knows of it."""

    def __init__(self, directory: Path, *, exact: bool) -> None:
        self.directory = directory
        self.dying = 0
        count = (lambda: len(walked(directory)) + self.dying) if exact else lambda: None
        self.tree = HierarchyTree(unified(directory), FakeCounter(count))
        self.faults: list[KernelFileError] = []

    @property
    def known(self) -> dict[str, int]:
        return {path: node.inode for path, node in self.tree.nodes.items()}

    def tick(self, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Follow the tree as the sampler does; ``meanwhile`` runs while the known cgroups are read."""
        self.tree.begin()
        meanwhile()
        there = walked(self.directory)
        all_alive = all(there.get(path) == inode for path, inode in self.known.items())
        return self.tree.follow(all_alive=all_alive, faults=self.faults)


@pytest.fixture(params=[True, False], ids=["exact count", "unknown count"])
def followed(tmp_path: Path, request: pytest.FixtureRequest) -> FollowedTree:
    for path in ("a/x", "a/y", "b"):
        (tmp_path / path).mkdir(parents=True)
    tree = FollowedTree(tmp_path, exact=request.param)
    assert tree.tick()
    return tree


def test_the_first_tick_finds_everything(followed: FollowedTree) -> None:
    assert followed.known == walked(followed.directory)
    assert set(followed.known) == {"/", "/a", "/a/x", "/a/y", "/b"}


def test_nothing_changed_is_told(followed: FollowedTree) -> None:
    assert not followed.tick()


def test_a_new_cgroup_is_found_at_the_next_tick(followed: FollowedTree) -> None:
    (followed.directory / "b/new/nested").mkdir(parents=True)
    assert followed.tick()
    assert followed.known == walked(followed.directory)


def test_a_removed_cgroup_is_gone_at_the_next_tick(followed: FollowedTree) -> None:
    (followed.directory / "a/x").rmdir()
    assert followed.tick()
    assert followed.known == walked(followed.directory)


def test_one_that_came_and_went_between_two_ticks_is_never_known(followed: FollowedTree) -> None:
    (followed.directory / "a/z").mkdir()
    (followed.directory / "a/z").rmdir()
    assert not followed.tick()
    assert "/a/z" not in followed.known


def test_one_that_goes_while_another_comes_leaves_the_link_count_and_is_noticed(
    followed: FollowedTree,
) -> None:
    (followed.directory / "a/x").rmdir()
    (followed.directory / "a/z").mkdir()
    assert followed.tick()
    assert set(followed.known) == {"/", "/a", "/a/y", "/a/z", "/b"}


def test_the_same_path_made_again_is_another_cgroup(followed: FollowedTree) -> None:
    before = followed.known["/a/x"]
    (followed.directory / "keep the old inode").mkdir()
    (followed.directory / "a/x").rename(followed.directory / "keep the old inode/x")
    (followed.directory / "a/x").mkdir()
    assert followed.tick()
    assert followed.known["/a/x"] != before
    assert followed.known == walked(followed.directory)


@pytest.mark.parametrize("followed", [True], indirect=True)
def test_removed_ones_that_are_still_counted_do_no_harm(followed: FollowedTree) -> None:
    followed.dying = 3
    assert not followed.tick()
    (followed.directory / "c").mkdir()
    followed.dying = 2
    assert followed.tick()
    assert followed.known == walked(followed.directory)


def test_one_that_came_while_the_others_were_read_is_found_one_tick_later_at_the_latest(
    followed: FollowedTree,
) -> None:
    followed.tick(meanwhile=(followed.directory / "c").mkdir)
    followed.tick()
    assert followed.known == walked(followed.directory)


def test_links_and_files_are_no_cgroups(followed: FollowedTree) -> None:
    (followed.directory / "a/link").symlink_to(followed.directory / "b")
    (followed.directory / "a/file").touch()
    (followed.directory / "a/z").mkdir()
    followed.tick()
    assert set(followed.known) == {"/", "/a", "/a/x", "/a/y", "/a/z", "/b"}


def test_a_root_that_is_not_there_is_a_fault_with_its_path_and_no_cgroups(followed: FollowedTree) -> None:
    shutil.rmtree(followed.directory)
    followed.tree.begin = lambda: None  # type: ignore[method-assign]  # there is nothing to count
    assert followed.tick()
    assert followed.known == {}
    assert [(type(fault), fault.path) for fault in followed.faults] == [
        (FileMissingError, os.fspath(followed.directory))
    ]


class Calls:
    """Counts calls of functions of ``os``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: dict[str, list[Any]] = {"scandir": [], "stat": []}
        for name in self.paths:
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(path: object, **options: Any) -> Any:
            self.paths[name].append(path)
            return function(path, **options)

        return count


def follow_quietly(followed: FollowedTree, count: int | None, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Tick once with a fixed count, and return what was called."""
    followed.tree._counter = FakeCounter(lambda: count)  # a count that costs no call itself
    followed.tree.begin()
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        followed.tree.follow(all_alive=True, faults=followed.faults)
    return calls


def test_a_quiet_node_is_neither_listed_nor_looked_at(
    followed: FollowedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = follow_quietly(followed, 5, monkeypatch)
    assert calls.paths == {"scandir": [], "stat": []}


def test_a_node_whose_count_is_not_known_is_looked_at_but_not_listed(
    followed: FollowedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = follow_quietly(followed, None, monkeypatch)
    assert calls.paths["scandir"] == []
    assert len(calls.paths["stat"]) == 5


def test_only_the_parent_of_what_changed_is_listed(
    followed: FollowedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (followed.directory / "a/z").mkdir()
    calls = follow_quietly(followed, 6, monkeypatch)
    assert calls.paths["scandir"] == [f"{followed.directory}/a"]
    assert followed.known == walked(followed.directory)


class TreeMachine(RuleBasedStateMachine):
    """Any sequence of mkdir and rmdir, at any moment, against a walk of the whole tree."""

    exact = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="cgwtest-tree-"))
        self.followed = FollowedTree(self.directory, exact=self.exact)
        self.quiet = False

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def pick(self, place: int, *, leaves: bool) -> Path | None:
        """Choose a directory, or one that can be removed."""
        paths = [
            Path(here)
            for here, below, _ in os.walk(self.directory)
            if not leaves or (not below and here != f"{self.directory}")
        ]
        return sorted(paths)[place % len(paths)] if paths else None

    def make(self, place: int, name: str) -> None:
        parent = self.pick(place, leaves=False)
        assert parent is not None
        (parent / name).mkdir(exist_ok=True)

    def remove(self, place: int) -> Path | None:
        leaf = self.pick(place, leaves=True)
        if leaf:
            leaf.rmdir()
        return leaf

    places = st.integers(0, 50)
    names = st.sampled_from("abcdef")

    @rule(place=places, name=names)
    def make_one(self, place: int, name: str) -> None:
        self.make(place, name)
        self.quiet = False

    @rule(place=places)
    def remove_one(self, place: int) -> None:
        self.remove(place)
        self.quiet = False

    @rule(place=places, name=names)
    def one_goes_and_another_comes_beside_it(self, place: int, name: str) -> None:
        gone = self.remove(place)
        if gone:
            (gone.parent / name).mkdir(exist_ok=True)
        self.quiet = False

    @rule(number=st.integers(0, 2))
    def removed_ones_linger(self, number: int) -> None:
        self.followed.dying = number

    @rule(place=places, name=names, coming=st.booleans(), going=st.booleans())
    def tick_while_it_changes(self, place: int, name: str, *, coming: bool, going: bool) -> None:
        def change() -> None:
            if going:
                self.remove(place)
            if coming:
                self.make(place, name)

        self.followed.tick(meanwhile=change)
        self.quiet = False

    @precondition(lambda self: not self.quiet)
    @rule()
    def tick(self) -> None:
        before = self.followed.known
        changed = self.followed.tick()
        assert changed is (before != self.followed.known)
        self.quiet = True

    @invariant()
    def after_a_quiet_tick_all_is_known(self) -> None:
        if self.quiet:
            assert self.followed.known == walked(self.directory)
            for path, node in self.followed.tree.nodes.items():
                below = self.directory / path.lstrip("/")
                assert node.children == {child.name for child in below.iterdir()}
        assert self.followed.faults == []


class UncountedTreeMachine(TreeMachine):
    exact = False


TestAnyChangesWithAnExactCount = TreeMachine.TestCase
TestAnyChangesWithAnUnknownCount = UncountedTreeMachine.TestCase
for case in (TestAnyChangesWithAnExactCount, TestAnyChangesWithAnUnknownCount):
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_cgroup_is_known_with_every_hierarchy_that_has_it(tmp_path: Path) -> None:
    v1 = tuple(Hierarchy(1, frozenset({name}), f"{tmp_path}/{name}") for name in ("cpu", "devices", "memory"))
    beside = Hierarchy(2, frozenset(), f"{tmp_path}/unified")
    for path in ("cpu/a", "memory/a/b", "unified/u", "devices/d"):
        (tmp_path / path).mkdir(parents=True)
    counters: list[FakeCounter] = []

    def counter(_: Hierarchy) -> FakeCounter:
        counters.append(FakeCounter(lambda: None))
        return counters[-1]

    tree = Tree(Hierarchies(Layout.HYBRID, v1, beside), frozenset({"cpu", "memory"}), counter)
    tree.begin()
    assert tree.follow(all_alive=True, faults=[])
    cpu, _, memory = v1
    found = {path: list(places) for path, places in tree.places().items()}
    assert found == {"/": [cpu, memory, beside], "/a": [cpu, memory], "/a/b": [memory], "/u": [beside]}
    assert tree.places()["/a"][memory] == os.stat(f"{tmp_path}/memory/a").st_ino
    tree.close()
    assert [one.closed for one in counters] == [True] * 3


class RealTree:
    """The real hierarchies; the sampler's reading of known cgroups is left out, so none is surely alive."""

    def __init__(self, mine: str) -> None:
        self.mine = f"/{mine}"
        self.tree = controllers.open_tree(hierarchy.find("/proc", None), "/proc", Descriptors(100))
        self.tick()

    def tick(self, *, all_alive: bool = False) -> bool:
        self.tree.begin()
        return self.tree.follow(all_alive=all_alive, faults=[])

    def paths(self) -> dict[str, int]:
        """Return our own cgroups below the first, and the inode in the first hierarchy."""
        self.tick()
        return {
            path.removeprefix(self.mine): next(iter(places.values()))
            for path, places in self.tree.places().items()
            if path.startswith(self.mine)
        }


@pytest.fixture
def real(v1_cgroups: V1Cgroups) -> Iterator[RealTree]:
    v1_cgroups.make()
    tree = RealTree(v1_cgroups.name)
    yield tree
    tree.tree.close()


@pytest.mark.real
def test_real_cgroups_are_followed_as_they_come_and_go(real: RealTree, v1_cgroups: V1Cgroups) -> None:
    assert set(real.paths()) == {""}
    v1_cgroups.make("a/b/c")
    assert set(real.paths()) == {"", "/a", "/a/b", "/a/b/c"}
    v1_cgroups.path("a/b/c").rmdir()
    v1_cgroups.make("a/b/d")
    assert set(real.paths()) == {"", "/a", "/a/b", "/a/b/d"}
    v1_cgroups.make("a/b/gone").rmdir()
    assert set(real.paths()) == {"", "/a", "/a/b", "/a/b/d"}


@pytest.mark.real
def test_a_real_cgroup_made_again_under_its_path_is_another_one(
    real: RealTree, v1_cgroups: V1Cgroups
) -> None:
    directory = v1_cgroups.make("a")
    before = real.paths()["/a"]
    directory.rmdir()
    directory.mkdir()
    assert real.paths()["/a"] > before


@pytest.mark.real
def test_a_real_cgroup_in_two_hierarchies_is_one_with_two_places(
    real: RealTree, v1_cgroups: V1Cgroups
) -> None:
    v1_cgroups.make("a")
    v1_cgroups.make("a", "pids")
    real.tick()
    places = real.tree.places()[f"/{v1_cgroups.name}/a"]
    assert {name for place in places for name in place.controllers} == {"memory", "pids"}


@pytest.mark.real
def test_the_kernel_counts_a_new_cgroup_at_once(real: RealTree, v1_cgroups: V1Cgroups) -> None:
    # As if every known cgroup had answered: then the count alone must tell that there is another.
    v1_cgroups.make("a")
    assert real.tick(all_alive=True)
    assert f"/{v1_cgroups.name}/a" in real.tree.places()


@pytest.mark.real
def test_a_real_memory_cgroup_that_lingers_after_its_end_is_not_known_any_more(
    real: RealTree, v1_cgroups: V1Cgroups, tmp_path: Path
) -> None:
    for number in range(3):
        directory = v1_cgroups.make(f"dying{number}")
        file = tmp_path / str(number)
        # Its page cache is charged to the cgroup, and holds it after its directory is removed.
        process = v1_cgroups.start(
            directory, command=("sh", "-c", f"head -c 1000000 /dev/zero > {file}; echo; cat")
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert f"/dying{number}" in real.paths()
        v1_cgroups.end(process)
        v1_cgroups.remove(directory)
        assert f"/dying{number}" not in real.paths()
    counted = controllers.parse_cgroups(Path("/proc/cgroups").read_bytes(), "memory")
    assert counted > len(list(Path("/sys/fs/cgroup/memory").glob("**/")))
    v1_cgroups.make("alive")
    assert set(real.paths()) == {"", "/alive"}
