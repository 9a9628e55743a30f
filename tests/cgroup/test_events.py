"""What the kernel tells by itself: on v1 as this machine has it, and on v2 in User Mode Linux."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup.events import EXHAUSTED, ModifiedEvents, Notifier, OomNotices
from cgwatch.errors import FileMissingError, KernelFileError, ReadFailedError
from tests.oom.hogs import IN_UML, MEGABYTE, Hogs, awaited, open_descriptors, run_on_v2

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

MANY = 500


@pytest.fixture
def hogs() -> Iterator[Hogs]:
    hogs = Hogs()
    try:
        yield hogs
    finally:
        hogs.close()


@pytest.fixture
def notifier(hogs: Hogs) -> Iterator[Notifier]:
    notifier: Notifier = ModifiedEvents() if hogs.is_v2 else OomNotices()
    try:
        yield notifier
    finally:
        notifier.close()


def add(notifier: Notifier, hogs: Hogs, *paths: str) -> None:
    for path in paths:
        notifier.add(path, str(hogs.directory(path)))


def only_on(hogs: Hogs, version: int) -> None:
    if hogs.hierarchy.version != version:
        pytest.skip(f"is about cgroup v{version}")


def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    if IN_UML in os.environ:
        pytest.skip("this is the kernel that is tested")
    run_on_v2("tests/cgroup/test_events.py")


def test_a_kill_is_told_of_its_cgroup_and_of_no_other(hogs: Hogs, notifier: Notifier) -> None:
    victim, other = hogs.make("a", 8 * MEGABYTE), hogs.make("b")
    add(notifier, hogs, victim, other)
    assert notifier.take() == set()
    hogs.kill_in(victim)
    assert awaited(notifier, victim) == {victim}


def test_each_further_kill_is_told_again(hogs: Hogs, notifier: Notifier) -> None:
    victim = hogs.make("a", 8 * MEGABYTE)
    add(notifier, hogs, victim)
    for _ in range(3):
        hogs.kill_in(victim)
        awaited(notifier, victim)


def test_a_kill_by_the_limit_of_the_cgroup_above_is_told_of_the_victims(
    hogs: Hogs, notifier: Notifier
) -> None:
    pod = hogs.make("pod", 8 * MEGABYTE)
    container = hogs.make("pod/container")
    add(notifier, hogs, pod, container)
    hogs.kill_in(container)
    assert awaited(notifier, container) <= {pod, container}


def test_what_is_removed_from_the_list_is_told_no_more(hogs: Hogs, notifier: Notifier) -> None:
    silent, victim = hogs.make("silent", 8 * MEGABYTE), hogs.make("victim", 8 * MEGABYTE)
    add(notifier, hogs, silent, victim)
    notifier.remove(silent)
    notifier.remove(silent)
    hogs.kill_in(silent)
    hogs.kill_in(victim)
    assert awaited(notifier, victim) == {victim}


def test_v1_tells_the_removal_of_a_cgroup_once(hogs: Hogs, notifier: Notifier) -> None:
    only_on(hogs, 1)
    path = hogs.make("a")
    add(notifier, hogs, path)
    hogs.remove(path)
    assert awaited(notifier, path) == {path}
    assert notifier.take() == set()
    notifier.remove(path)


def test_v2_tells_when_the_last_process_has_left(hogs: Hogs, notifier: Notifier) -> None:
    only_on(hogs, 2)
    path = hogs.make("a")
    (hogs.directory(path) / "cgroup.procs").write_text(str(os.getpid()))
    add(notifier, hogs, path)
    assert notifier.take() == set()
    (hogs.directory("/init") / "cgroup.procs").write_text(str(os.getpid()))
    assert awaited(notifier, path) == {path}


def test_a_cgroup_that_was_removed_and_made_anew_is_told_of_again(hogs: Hogs, notifier: Notifier) -> None:
    path = hogs.make("a", 8 * MEGABYTE)
    add(notifier, hogs, path)
    hogs.remove(path)
    hogs.make("a", 8 * MEGABYTE)
    notifier.remove(path)
    add(notifier, hogs, path)
    hogs.kill_in(path)
    assert awaited(notifier, path) == {path}


def test_a_cgroup_that_is_gone_is_missing(hogs: Hogs, notifier: Notifier) -> None:
    before = open_descriptors()
    with pytest.raises(FileMissingError, match="cgwtest-hogs"):
        add(notifier, hogs, f"{hogs.top}/gone")
    assert open_descriptors() == before


def test_many_cgroups_that_come_and_go_leave_no_descriptor(hogs: Hogs, notifier: Notifier) -> None:
    paths = [hogs.make(f"{number}") for number in range(MANY)]
    before = open_descriptors()
    for _ in range(2):
        add(notifier, hogs, *paths)
        assert open_descriptors() - before == (0 if hogs.is_v2 else MANY)
        for path in paths[::2]:
            notifier.remove(path)
        for path in paths[1::2]:
            notifier.remove(path)
        assert open_descriptors() == before
    add(notifier, hogs, *paths)
    for path in paths:
        hogs.remove(path)
    notifier.take()
    for path in paths:
        notifier.remove(path)
    assert notifier.take() == set()
    assert open_descriptors() == before


def test_closing_leaves_no_descriptor(hogs: Hogs) -> None:
    before = open_descriptors()
    notifier = ModifiedEvents() if hogs.is_v2 else OomNotices()
    add(notifier, hogs, hogs.make("a"), hogs.make("b"))
    notifier.close()
    assert open_descriptors() == before


def test_a_limit_of_the_machine_says_which_one_to_raise(
    hogs: Hogs, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hogs.make("a")
    if hogs.is_v2:
        limit = "/proc/sys/fs/inotify/max_user_watches"
        raised = 1 << 16
        with open(limit, "w", encoding="ascii") as file:
            file.write("1")
        with pytest.raises(ReadFailedError, match=r"raise fs\.inotify\.max_user_watches") as refused:
            add(notifier, hogs, path)
        with open(limit, "w", encoding="ascii") as file:
            file.write(str(raised))
    else:
        monkeypatch.setattr(os, "eventfd", out_of_descriptors)
        with pytest.raises(ReadFailedError, match="raise the limit on open files") as refused:
            add(notifier, hogs, path)
        monkeypatch.undo()
    assert refused.value.errno in EXHAUSTED
    add(notifier, hogs, path)


def out_of_descriptors(*_arguments: int) -> int:
    raise OSError(errno.EMFILE, "")


def test_without_inotify_instances_it_says_what_to_raise() -> None:
    if IN_UML not in os.environ:
        pytest.skip("lowers a limit of the whole machine: only in User Mode Linux")
    limit = "/proc/sys/fs/inotify/max_user_instances"
    with open(limit, encoding="ascii") as file:
        before = file.read()
    with open(limit, "w", encoding="ascii") as file:
        file.write("0")
    try:
        with pytest.raises(KernelFileError, match=r"raise fs\.inotify\.max_user_instances"):
            ModifiedEvents()
    finally:
        with open(limit, "w", encoding="ascii") as file:
            file.write(before)
