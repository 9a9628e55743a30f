from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Runtime
from cgwatch.sampling.stopped import Stopped
from tests.cgroup.fake_trees import Node

if TYPE_CHECKING:
    from pathlib import Path

ID, OTHER_ID = "a" * 64, "b" * 64


def said(container_id: str = ID, state: str = "exited", **more: object) -> Description:
    return Description(Runtime.DOCKER, container_id, "shop", "image:1", {}, state, **more)  # type: ignore[arg-type]


def running(path: str) -> Container:
    return Container(Cgroup(path, 7), recognise(path))


def paths(stopped: Stopped, descriptions: list[Description], *cgroups: str) -> list[str]:
    described = {each.container_id: each for each in descriptions}
    return [
        sample.container.cgroup.path
        for sample in stopped.update(described, [running(path) for path in cgroups])
    ]


def test_a_container_that_runs_is_not_among_the_stopped() -> None:
    assert paths(Stopped(), [said(state="running")], "/", f"/docker/{ID}", f"/docker/{ID}/init") == []


def test_a_container_keeps_the_path_that_its_cgroup_had() -> None:
    stopped, path = Stopped(), f"/batch/docker/{ID}"
    other = said(cgroup_path="/elsewhere")
    assert paths(stopped, [other], path) == []
    for _ in range(3):
        assert paths(stopped, [other]) == [path]
    assert paths(stopped, [other], path) == []


def test_a_container_that_never_ran_has_the_path_that_the_runtime_is_going_to_make() -> None:
    assert paths(Stopped(), [said(cgroup_path=f"/system.slice/docker-{ID}.scope")]) == [
        f"/system.slice/docker-{ID}.scope"
    ]
    assert paths(Stopped(), [said()]) == [f"/docker/{ID}"]


def test_a_container_that_is_removed_is_forgotten_at_once() -> None:
    stopped = Stopped()
    paths(stopped, [said()], f"/batch/{ID}")
    assert paths(stopped, []) == []
    assert paths(stopped, [said()]) == [f"/docker/{ID}"]


def test_it_is_the_same_object_until_the_runtime_says_something_else() -> None:
    stopped, description = Stopped(), said()
    (first,) = stopped.update({ID: description}, [])
    (second,) = stopped.update({ID: description}, [])
    (third,) = stopped.update({ID: said(exit_code=1)}, [])
    assert first is second is not third
    assert first.container.cgroup.inode == 0
    assert first.container.description is description
    assert first.container.owner.container_id == ID


def test_of_too_many_the_newest_are_shown_and_the_rest_is_counted() -> None:
    stopped = Stopped(most=2)
    descriptions = [
        said(f"{1:064x}", finished_seconds=30.0, created_seconds=1.0),
        said(f"{2:064x}", created_seconds=20.0),
        said(f"{3:064x}", finished_seconds=10.0, created_seconds=9.0),
        said(f"{4:064x}"),
    ]
    assert paths(stopped, descriptions) == [f"/docker/{1:064x}", f"/docker/{2:064x}"]
    assert stopped.left_out == 2
    assert paths(stopped, descriptions[:2]) == [f"/docker/{1:064x}", f"/docker/{2:064x}"]
    assert stopped.left_out == 0


def test_they_are_ordered_by_path() -> None:
    descriptions = [said(OTHER_ID, cgroup_path="/b"), said(ID, cgroup_path="/a")]
    assert paths(Stopped(), descriptions) == ["/a", "/b"]


def test_the_sampler_shows_a_container_as_stopped_from_the_tick_on_at_which_its_cgroup_is_gone(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path / "node")
    node.v2("/")
    directory = node.v2(f"/batch/{ID}")
    node.sampler.describe({ID: said(state="running")})
    try:
        assert node.tick().stopped == ()
        shutil.rmtree(directory)
        (sample,) = node.tick().stopped
        assert sample.container.cgroup == Cgroup(f"/batch/{ID}", 0)
        node.sampler.describe({})
        assert node.tick().stopped == ()
    finally:
        node.close()
