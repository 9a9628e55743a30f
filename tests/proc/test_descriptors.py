from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import AccessDeniedError, FileMissingError, KernelFileError
from cgwatch.proc import descriptors
from cgwatch.proc.descriptors import Descriptors

HOLDER = """
import os, socket
sockets = [socket.socket() for _ in range(5)]
files = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
print("ready", flush=True)
input()
"""
HELD = Descriptors(open_files=3 + 5 + 20, sockets=5)


@pytest.fixture(scope="module")
def holder() -> Iterator[int]:
    """Give a process with a known number of open files, three of them pipes."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.write(b"\n")
        process.stdin.close()


def links(proc: Path, *targets: str) -> str:
    directory = proc / "7" / "fd"
    directory.mkdir(parents=True)
    for number, target in enumerate(targets):
        (directory / str(number)).symlink_to(target)
    return str(proc)


def test_sockets_are_told_by_their_links(tmp_path: Path) -> None:
    proc = links(tmp_path, "/dev/null", "socket:[123]", "pipe:[4]", "anon_inode:[eventfd]", "/socket:[1]")
    assert descriptors.read_descriptors(proc, 7) == Descriptors(open_files=5, sockets=1)


def test_a_process_without_open_files_has_none(tmp_path: Path) -> None:
    assert descriptors.read_descriptors(links(tmp_path), 7) == Descriptors(0, 0)


def test_a_descriptor_that_is_closed_meanwhile_is_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = links(tmp_path, "socket:[1]", "socket:[2]")
    readlink = os.readlink

    def closing(path: str) -> str:
        if path.endswith("/1"):
            os.unlink(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", closing)
    assert descriptors.read_descriptors(proc, 7) == Descriptors(open_files=2, sockets=1)


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/fd: No such file"):
        descriptors.read_descriptors(str(tmp_path), 7)


def test_without_the_right_to_trace_the_directory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(AccessDeniedError, match="/proc/1/fd: Permission denied"):
        descriptors.read_descriptors("/proc", 1)


def test_a_real_process_has_what_it_opened(holder: int) -> None:
    assert descriptors.read_descriptors("/proc", holder) == HELD


def test_past_the_bound_the_directorys_size_tells_how_many_there_are(holder: int) -> None:
    if not os.stat(f"/proc/{holder}/fd").st_size:
        pytest.skip("needs Linux 6.2")
    found = descriptors.read_descriptors("/proc", holder, most_links=4)
    assert found == Descriptors(HELD.open_files, found.sockets, sockets_cut=True)
    assert found.sockets <= 4


def test_before_linux_6_2_they_are_counted_up_to_another_bound(
    holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat
    zeroed = os.stat_result((*real("/proc")[:6], 0, *real("/proc")[7:]))
    monkeypatch.setattr(os, "stat", lambda _: zeroed)

    def read(most_listed: int) -> Descriptors:
        return descriptors.read_descriptors("/proc", holder, most_links=0, most_listed=most_listed)

    assert read(100) == Descriptors(HELD.open_files, 0, sockets_cut=True)
    assert read(HELD.open_files) == Descriptors(HELD.open_files, 0, sockets_cut=True)
    assert read(20) == Descriptors(20, 0, open_files_cut=True, sockets_cut=True)


def test_exactly_as_many_as_the_bound_is_not_cut(holder: int) -> None:
    assert descriptors.read_descriptors("/proc", holder, most_links=HELD.open_files) == HELD


def test_no_descriptor_stays_open() -> None:
    before = descriptors.read_descriptors("/proc", os.getpid())
    with socket.socket():
        during = descriptors.read_descriptors("/proc", os.getpid(), most_links=1)
        assert during.open_files == before.open_files + 1
    assert descriptors.read_descriptors("/proc", os.getpid()) == before


@given(most_links=st.integers(0, 40), most_listed=st.integers(0, 60))
def test_the_bounds_never_show_more_than_there_is(holder: int, most_links: int, most_listed: int) -> None:
    found = descriptors.read_descriptors("/proc", holder, most_links=most_links, most_listed=most_listed)
    assert found.sockets <= HELD.sockets
    assert found.open_files == HELD.open_files or found.open_files_cut
    assert found.sockets == HELD.sockets or found.sockets_cut


def write_process(proc: Path, pid: int, *targets: str) -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    for number, target in enumerate(targets):
        (proc / str(pid) / "fd" / str(number)).symlink_to(target)


def unexpected(error: KernelFileError) -> None:
    raise error


def test_the_open_files_of_several_processes_are_added_up_and_one_that_ended_has_none(tmp_path: Path) -> None:
    write_process(tmp_path, 7, "socket:[1]", "/dev/null")
    write_process(tmp_path, 9, "socket:[1]")
    found = descriptors.read_all_descriptors(str(tmp_path), [7, 8, 9], failed=unexpected)
    assert found == Descriptors(open_files=3, sockets=2)
    assert descriptors.read_all_descriptors(str(tmp_path), [], failed=unexpected) == Descriptors(0, 0)


def test_a_process_that_may_not_be_traced_is_reported_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_process(tmp_path, 7, "/dev/null")
    write_process(tmp_path, 8, "/dev/null")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/7/fd"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    failures: list[KernelFileError] = []
    found = descriptors.read_all_descriptors(str(tmp_path), [7, 8], failed=failures.append)
    assert found == Descriptors(open_files=1, sockets=0)
    assert [(type(error), error.path) for error in failures] == [(AccessDeniedError, f"{tmp_path}/7/fd")]


def test_a_link_that_is_refused_because_its_process_has_just_ended_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_process(tmp_path, 7, "/dev/null")

    def ending(path: str) -> str:
        shutil.rmtree(tmp_path / "7")
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "readlink", ending)
    assert descriptors.read_all_descriptors(str(tmp_path), [7], failed=unexpected) == Descriptors(0, 0)


def test_the_bound_on_what_is_asked_holds_for_all_processes_together(holder: int) -> None:
    once = descriptors.read_all_descriptors("/proc", [holder], most_links=30, failed=unexpected)
    twice = descriptors.read_all_descriptors("/proc", [holder, holder], most_links=30, failed=unexpected)
    assert once == HELD
    assert twice.open_files == 2 * HELD.open_files
    assert HELD.sockets <= twice.sockets <= HELD.sockets + 2
    assert (twice.open_files_cut, twice.sockets_cut) == (False, True)


@given(
    st.lists(st.builds(Descriptors, st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans())),
)
def test_what_was_cut_in_one_is_cut_in_the_sum(parts: list[Descriptors]) -> None:
    total = descriptors.add_descriptors(parts)
    assert (total.open_files, total.sockets) == (
        sum(part.open_files for part in parts),
        sum(part.sockets for part in parts),
    )
    assert total.open_files_cut == any(part.open_files_cut for part in parts)
    assert total.sockets_cut == any(part.sockets_cut for part in parts)
