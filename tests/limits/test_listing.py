from __future__ import annotations

from pathlib import Path

import pytest

from cgwatch.agent import open_sampler
from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.limit_files import inode_of
from cgwatch.limits.listing import containers
from cgwatch.model import Description, Runtime
from cgwatch.settings import Roots, Settings
from tests.conftest import V1Cgroups

TREES = Path(__file__).parents[1] / "trees"


@pytest.mark.parametrize("tree", ["docker_v2", "docker_v1"])
def test_the_cgroups_are_those_of_a_snapshot_with_the_same_identity(tree: str) -> None:
    roots = Roots(cgroup=str(TREES / tree / "cgroup"), proc=str(TREES / tree / "proc"))
    sampler, _ = open_sampler(Settings(roots=roots), lambda _: None)
    sampled = [sample.container.cgroup for sample in sampler.sample(0).samples]
    sampler.close()

    found = containers(hierarchy.find(roots.proc, roots.cgroup), roots.proc, {})

    assert sorted((each.cgroup.path, each.cgroup.inode) for each in found) == [
        (cgroup.path, cgroup.inode) for cgroup in sampled
    ]


@pytest.mark.real
def test_a_cgroup_has_the_identity_that_whoever_writes_its_limits_looks_for(v1_cgroups: V1Cgroups) -> None:
    for controller in ("cpuset", "memory"):
        v1_cgroups.make("", controller)
    hierarchies = hierarchy.find("/proc", None)

    found = {each.cgroup.path: each.cgroup.inode for each in containers(hierarchies, "/proc", {})}

    assert found[f"/{v1_cgroups.name}"] == inode_of(hierarchies, f"/{v1_cgroups.name}")


@pytest.mark.real
def test_a_cgroup_of_one_v1_hierarchy_is_there_with_its_name(v1_cgroups: V1Cgroups) -> None:
    container_id = "ab" * 32
    v1_cgroups.make(container_id, "pids")
    said = Description(Runtime.DOCKER, container_id, "web", "web:1", {}, "running")

    found = {
        each.cgroup.path: each
        for each in containers(hierarchy.find("/proc", None), "/proc", {container_id: said})
    }

    here = found[f"/{v1_cgroups.name}/{container_id}"]
    assert here.cgroup.inode == v1_cgroups.path(container_id, "pids").stat().st_ino
    assert here.description == said
