from __future__ import annotations

import errno
import sys

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import FileMissingError, KernelFileError, ReadFailedError
from cgwatch.oom.watching import Watched, Watching

HIERARCHY = Hierarchy(2, frozenset({"memory"}), "/sys/fs/cgroup")
CONTAINER, PLAIN = Watched(1, is_container=True), Watched(1, is_container=False)


class FakeNotifier:
    """Has room for so many cgroups."""

    def __init__(self, room: int = sys.maxsize) -> None:
        self.room = room
        self.added: dict[str, str] = {}
        self.asked: list[str] = []
        self.told: set[str] = set()
        self.errors: dict[str, KernelFileError] = {}

    def fileno(self) -> int:
        return -1

    def add(self, path: str, directory: str) -> None:
        assert path not in self.added
        self.asked.append(path)
        if path in self.errors:
            raise self.errors[path]
        if len(self.added) >= self.room:
            raise ReadFailedError(directory, "no room", errno.ENOSPC)
        self.added[path] = directory

    def remove(self, path: str) -> None:
        self.added.pop(path, None)

    def take(self) -> set[str]:
        told, self.told = self.told & self.added.keys(), set()
        return told

    def close(self) -> None:
        self.added.clear()


def watching(notifier: FakeNotifier, most: int = sys.maxsize) -> Watching:
    return Watching(notifier, HIERARCHY, most)


def test_the_cgroups_that_there_are_are_watched_but_not_the_root() -> None:
    notifier = FakeNotifier()
    it = watching(notifier)
    it.follow({"/": PLAIN, "/a": CONTAINER, "/a/b": PLAIN})
    assert notifier.added == {"/a": "/sys/fs/cgroup/a", "/a/b": "/sys/fs/cgroup/a/b"}
    it.follow({"/": PLAIN, "/a/b": PLAIN})
    assert notifier.added == {"/a/b": "/sys/fs/cgroup/a/b"}
    assert notifier.asked == ["/a", "/a/b"]


def test_another_cgroup_of_the_same_path_is_watched_anew() -> None:
    notifier = FakeNotifier()
    it = watching(notifier)
    it.follow({"/a": CONTAINER})
    it.follow({"/a": Watched(2, is_container=True)})
    assert notifier.asked == ["/a", "/a"]


def test_containers_take_the_place_of_other_cgroups() -> None:
    notifier = FakeNotifier()
    it = watching(notifier, most=2)
    it.follow({"/a": PLAIN, "/b": PLAIN})
    it.follow({"/a": PLAIN, "/b": PLAIN, "/c": CONTAINER})
    assert notifier.added.keys() == {"/a", "/c"}
    assert it.refused.keys() == {"/b"}


def test_when_all_room_is_gone_nobody_asks_for_the_rest_until_the_next_change() -> None:
    notifier = FakeNotifier(room=1)
    it = watching(notifier)
    it.follow(dict.fromkeys(("/a", "/b", "/c", "/d"), CONTAINER))
    assert notifier.asked == ["/a", "/b"]
    assert it.refused.keys() == {"/b", "/c", "/d"}
    notifier.room = 9
    it.follow(dict.fromkeys(("/a", "/b", "/c"), CONTAINER))
    assert notifier.added.keys() == {"/a", "/b", "/c"}
    assert it.refused == {}


def test_one_that_is_refused_does_not_stop_the_others_and_one_that_is_gone_is_no_failure() -> None:
    notifier = FakeNotifier()
    notifier.errors = {
        "/a": ReadFailedError("/a/cgroup.event_control", "no", errno.EACCES),
        "/b": FileMissingError("/b/memory.events", "gone"),
    }
    it = watching(notifier)
    it.follow(dict.fromkeys(("/a", "/b", "/c"), CONTAINER))
    assert notifier.added.keys() == {"/c"}
    assert it.refused == {"/a": "/a/cgroup.event_control: no"}


def test_a_cgroup_that_tells_too_often_is_not_listened_to_for_a_while_and_then_looked_at() -> None:
    notifier = FakeNotifier()
    it = watching(notifier)
    it.follow({"/a": CONTAINER, "/b": CONTAINER})
    notifier.told = {"/a"}
    assert it.take(0) == ["/a"]
    notifier.told = {"/a", "/b"}
    assert it.take(0.01) == ["/b"]
    assert notifier.added.keys() == {"/b"}
    assert it.wait_seconds(0.01) == 0.01
    it.follow({"/a": CONTAINER, "/b": CONTAINER, "/c": CONTAINER})
    assert notifier.added.keys() == {"/b", "/c"}
    assert it.take(0.02) == ["/a"]
    assert notifier.added.keys() == {"/a", "/b", "/c"}


def test_a_cgroup_that_goes_while_it_is_not_listened_to_is_forgotten() -> None:
    notifier = FakeNotifier()
    it = watching(notifier)
    it.follow({"/a": CONTAINER, "/b": CONTAINER})
    for now in (0.0, 0.01):
        notifier.told = {"/a", "/b"}
        it.take(now)
    it.follow({"/b": CONTAINER})
    notifier.errors = {"/b": FileMissingError("/b/memory.events", "gone")}
    assert it.take(1) == ["/b"]  # whoever looks finds that it is gone
    assert notifier.added == {}
    assert it.take(3) == []
    assert it.wait_seconds(3) is None
