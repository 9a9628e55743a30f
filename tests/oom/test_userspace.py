"""Kills by daemons: real marks on real cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.discovery.recognise import recognise
from cgwatch.oom.kill import Holder
from cgwatch.oom.userspace import Marked, UserspaceKills, marks_of
from tests.real.needs import require

pytestmark = pytest.mark.real


@pytest.fixture
def directory() -> Iterator[Path]:
    """Make a cgroup of version 2: also where v1 has the controllers, there is such a hierarchy beside it."""
    unified = hierarchy.find("/proc", None).unified
    require(None if unified is not None and os.geteuid() == 0 else "needs root, and a cgroup2 mount")
    assert unified is not None
    path = Path(unified.directory) / f"cgwtest-marks-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def marked(directory: Path, inode: int = 1) -> Marked:
    path = f"/docker/{'a' * 64}"
    return Marked(Holder(path, inode, recognise(path), "web"), str(directory))


def totals(kills: UserspaceKills) -> dict[tuple[str, str], int]:
    return {(killed.killer, killed.series.name): count for killed, count in kills.totals.items()}


def test_a_mark_that_grows_is_a_kill_by_the_daemon_that_makes_such_marks(directory: Path) -> None:
    kills = UserspaceKills()
    kills.look([marked(directory)], complete=True)
    os.setxattr(directory, "user.oomd_ooms", b"1")
    os.setxattr(directory, "user.oomd_kill", b"17")
    kills.look([marked(directory)])
    assert totals(kills) == {("systemd-oomd", "web"): 1}

    os.setxattr(directory, "user.oomd_ooms", b"3")
    kills.look([marked(directory)], complete=True)
    kills.look([marked(directory)], complete=True)
    assert totals(kills) == {("systemd-oomd", "web"): 3}


def test_the_other_daemon_makes_two_marks_and_is_one_killer(directory: Path) -> None:
    kills = UserspaceKills()
    kills.look([marked(directory)])
    for name in ("trusted.oomd_ooms", "user.oomd_ooms"):
        os.setxattr(directory, name, b"1")
    kills.look([marked(directory)])

    assert totals(kills) == {("oomd", "web"): 1}


def test_marks_from_before_are_not_counted_nor_those_of_another_cgroup_of_the_same_path(
    directory: Path,
) -> None:
    os.setxattr(directory, "user.oomd_ooms", b"4")
    kills = UserspaceKills()
    kills.look([marked(directory)], complete=True)
    kills.look([marked(directory, inode=2)], complete=True)

    assert totals(kills) == {}


@pytest.mark.parametrize("forged", [b"", b"-1", b"1e9", b"9" * 100, b"\xff"])
def test_a_mark_that_is_no_count_says_nothing(directory: Path, forged: bytes) -> None:
    os.setxattr(directory, "user.oomd_ooms", forged)

    assert marks_of(str(directory)) == {}


def test_a_cgroup_that_is_gone_has_no_marks(directory: Path) -> None:
    assert marks_of(f"{directory}/gone") == {}
