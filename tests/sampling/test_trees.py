"""Captured nodes of many kinds: whose each cgroup is, and that the sampler says what was set and done there.

``meta.json`` of a tree says what is known of it without looking: what was written, which work was done.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.model import Kind, Owner, Runtime
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.cgroup.fake_trees import TREES

if TYPE_CHECKING:
    from collections.abc import Callable

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample, Snapshot

LEDGER = "2edf54f8-6911-449f-9abe-3d468a770d6b"
STATIC = "36b6d6be73b1065af369b3985edafa09"
REPORT = "b7c3f1d0-58a2-4c1e-8f37-0d9a6e4b2c15"
QOS_OF = {LEDGER: "guaranteed", STATIC: "burstable", REPORT: "besteffort"}
SLICE = "/kubepods.slice"
POD_SLICES = {
    LEDGER: f"{SLICE}/kubepods-pod2edf54f8_6911_449f_9abe_3d468a770d6b.slice",
    STATIC: f"{SLICE}/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice",
    REPORT: f"{SLICE}/kubepods-besteffort.slice"
    "/kubepods-besteffort-podb7c3f1d0_58a2_4c1e_8f37_0d9a6e4b2c15.slice",
}
POD_FOLDERS = {
    LEDGER: f"/kubepods/pod{LEDGER}",
    STATIC: f"/kubepods/burstable/pod{STATIC}",
    REPORT: f"/kubepods/besteffort/pod{REPORT}",
}
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
USERS = f"{MANAGER}/user.slice"
KUBERNETES = tuple(
    f"kubernetes_{runtime}_v2_{driver}"
    for runtime in ("containerd", "crio")
    for driver in ("systemd", "cgroupfs")
)
ROOT = {"/": Owner(Kind.ROOT, Runtime.NONE)}
Owners = dict[str, Owner]


def load(tree: str, name: str) -> Any:
    return json.loads((TREES / tree / name).read_text())


def unit(path: str, **more: Any) -> Owners:
    return {path: Owner(Kind.UNIT, Runtime.SYSTEMD, unit=path.rpartition("/")[2], **more)}


def plain(path: str, **more: Any) -> Owners:
    return {path: Owner(Kind.PLAIN, Runtime.NONE, **more)}


def container(path: str, runtime: Runtime, container_id: str, **more: Any) -> Owners:
    name = path.rpartition("/")[2]
    scope = name if name.endswith(".scope") else None
    return {path: Owner(Kind.CONTAINER, runtime, container_id=container_id, unit=scope, **more)}


def kubernetes(tree: str, runtime: Runtime, name: str, *, slices: bool) -> Owners:
    """Give the owners of a node's pods; ``name`` is the form of a container's directory."""

    def of_kubernetes(path: str, kind: Kind, uid: str | None, qos_class: str | None) -> Owners:
        last = path.rpartition("/")[2] if slices else None
        return {path: Owner(kind, Runtime.KUBERNETES, pod_uid=uid, qos_class=qos_class, unit=last)}

    owners = of_kubernetes(SLICE if slices else "/kubepods", Kind.QOS, None, None)
    for level in ("burstable", "besteffort"):
        path = f"{SLICE}/kubepods-{level}.slice" if slices else f"/kubepods/{level}"
        owners |= of_kubernetes(path, Kind.QOS, None, level)
    pods = POD_SLICES if slices else POD_FOLDERS
    for uid, path in pods.items():
        owners |= of_kubernetes(path, Kind.POD, uid, QOS_OF[uid])
    said = load(tree, "cri.json")
    for one in said["sandboxes"] + said["containers"]:
        uid = one["labels"]["io.kubernetes.pod.uid"]
        pod = {"pod_uid": uid, "qos_class": QOS_OF[uid]}
        owners |= container(f"{pods[uid]}/{name % one['id']}", runtime, one["id"], **pod)
    return owners


def first_id(tree: str) -> str:
    """Give the id of the container that CRI-O's conmon of the tree watches."""
    identity: str = load(tree, "cri.json")["containers"][0]["id"]
    return identity


def podman() -> Owners:
    said = {one["Name"].strip("/"): one["Id"] for one in load("podman_rootless_v2", "docker.json")}
    (pod,) = (
        path.rpartition("/")[2]
        for path in load("podman_rootless_v2", "meta.json")["cgroups"]
        if path.endswith(".slice") and "libpod_pod" in path
    )
    pod_slice = f"{USERS}/{pod}"
    owners = unit("/user.slice") | unit("/user.slice/user-1000.slice") | unit(MANAGER)
    for path in (f"{MANAGER}/app.slice", f"{MANAGER}/app.slice/cache.service", USERS):
        owners |= unit(path, user_id=1000)
    owners |= unit(f"{USERS}/libpod-conmon-{said['web']}.scope", user_id=1000)
    owners |= plain(f"{MANAGER}/app.slice/cache.service/runtime", user_id=1000)
    payload = f"{MANAGER}/app.slice/cache.service/libpod-payload-{said['cache']}"
    owners |= container(payload, Runtime.PODMAN, said["cache"], user_id=1000)
    owners[pod_slice] = Owner(Kind.POD, Runtime.PODMAN, unit=pod, user_id=1000)
    for name, parent in (("web", USERS), ("infra", pod_slice), ("job", pod_slice)):
        scope = f"{parent}/libpod-{said[name]}.scope"
        owners |= container(scope, Runtime.PODMAN, said[name], user_id=1000)
        owners |= plain(f"{scope}/container", user_id=1000, parent_container_id=said[name])
    return owners


def nested(tree: str, *, has_init: bool) -> Owners:
    dind, machine = (one["Id"] for one in load(tree, "docker.json"))
    (inner,) = (one["Id"] for one in load(tree, "inner_docker.json"))
    owners = plain("/docker")
    for identity in (dind, machine):
        owners |= container(f"/docker/{identity}", Runtime.DOCKER, identity)
    owners |= plain(f"/docker/{dind}/docker", parent_container_id=dind)
    path = f"/docker/{dind}/docker/{inner}"
    owners |= container(path, Runtime.DOCKER, inner, parent_container_id=dind)
    if has_init:  # v2: whoever hands controllers down must not have processes himself
        owners |= plain(f"/docker/{dind}/init", parent_container_id=dind)
    for name in ("init.scope", "system.slice", "system.slice/till.service"):
        owners |= unit(f"/docker/{machine}/{name}", parent_container_id=machine)
    return owners


OWNERS: dict[str, Callable[[], Owners]] = {
    "kubernetes_containerd_v2_systemd": lambda: kubernetes(
        "kubernetes_containerd_v2_systemd", Runtime.CONTAINERD, "cri-containerd-%s.scope", slices=True
    ),
    "kubernetes_containerd_v2_cgroupfs": lambda: kubernetes(
        "kubernetes_containerd_v2_cgroupfs", Runtime.CONTAINERD, "%s", slices=False
    ),
    "kubernetes_crio_v2_systemd": lambda: (
        kubernetes("kubernetes_crio_v2_systemd", Runtime.CRIO, "crio-%s.scope", slices=True)
        | unit("/system.slice")
        | unit(f"/system.slice/crio-conmon-{first_id('kubernetes_crio_v2_systemd')}.scope")
    ),
    "kubernetes_crio_v2_cgroupfs": lambda: (
        kubernetes("kubernetes_crio_v2_cgroupfs", Runtime.CRIO, "crio-%s", slices=False)
        | plain(
            f"{POD_FOLDERS[LEDGER]}/crio-conmon-{first_id('kubernetes_crio_v2_cgroupfs')}",
            pod_uid=LEDGER,
            qos_class="guaranteed",
        )
    ),
    "podman_rootless_v2": podman,
    "nested_docker_v1": lambda: nested("nested_docker_v1", has_init=False),
    "nested_docker_v2": lambda: nested("nested_docker_v2", has_init=True),
}
each_tree = pytest.mark.parametrize("tree", OWNERS)


def quota(text: str) -> tuple[int, int]:
    most, period = text.split()
    return int(most), int(period)


# Kernel file, what the sample has of it, and how the text that was written is to be read.
SETTINGS: dict[str, tuple[Callable[[Sample], object], Callable[[str], object]]] = {
    "memory.max": (lambda sample: part(sample.memory).limit_bytes, int),
    "memory.limit_in_bytes": (lambda sample: part(sample.memory).limit_bytes, int),
    "memory.high": (lambda sample: part(sample.memory).high_bytes, int),
    "memory.min": (lambda sample: part(sample.memory).min_bytes, int),
    "memory.oom.group": (lambda sample: part(sample.memory).oom_group, lambda text: text == "1"),
    "cpu.max": (
        lambda sample: (part(sample.cpu).quota_microseconds, part(sample.cpu).period_microseconds),
        quota,
    ),
    "cpu.weight": (lambda sample: part(sample.cpu).weight, int),
    "pids.max": (lambda sample: part(sample.pids).limit, int),
}
NOT_SAMPLED = {"cpuset.cpus", "hugetlb.2MB.max", "hugetlb.2MB.current"}
WORK: dict[str, Callable[[Sample], int | None]] = {
    "memory.stat anon": lambda sample: part(sample.memory).stat.anon_bytes,
    "memory.stat rss": lambda sample: part(sample.memory).stat.anon_bytes,
    "memory.stat shmem": lambda sample: part(sample.memory).stat.shmem_bytes,
    "memory.events oom_kill": lambda sample: part(sample.memory).events.oom_kill,
    "memory.oom_control oom_kill": lambda sample: part(sample.memory).events_local.oom_kill,
    "cpu.stat nr_throttled": lambda sample: part(sample.cpu).throttled_periods_total,
    "io.stat rbytes": lambda sample: sum(one.read_bytes_total or 0 for one in part(sample.io).devices or ()),
    "io.stat wbytes": lambda sample: sum(
        one.written_bytes_total or 0 for one in part(sample.io).devices or ()
    ),
}


def part(stats: Any) -> Any:
    assert stats is not None, "this controller is accounted here"
    return stats


@pytest.fixture(scope="module")
def snapshots() -> dict[str, Snapshot]:
    return {tree: take(tree) for tree in OWNERS}


def take(tree: str) -> Snapshot:
    """Sample a tree once; every file of it that is no tolerated absence must be readable."""
    proc = str(TREES / tree / "proc")
    failures: list[KernelFileError] = []
    sampler = Sampler(
        hierarchy.find(proc, str(TREES / tree / "cgroup")),
        proc_root=proc,
        descriptors=Descriptors(0),
        plan=Plan(),
        clock=lambda: 0,
        monotonic=lambda: 0,
        failed=failures.append,
    )
    try:
        snapshot = sampler.sample(0)
    finally:
        sampler.close()
    assert [str(failure) for failure in failures] == []
    return snapshot


def by_path(snapshot: Snapshot) -> dict[str, Sample]:
    return {sample.container.cgroup.path: sample for sample in snapshot.samples}


@each_tree
def test_every_cgroup_of_a_node_has_its_owner(snapshots: dict[str, Snapshot], tree: str) -> None:
    found = {path: sample.container.owner for path, sample in by_path(snapshots[tree]).items()}

    assert found == ROOT | OWNERS[tree]()


@each_tree
def test_a_tree_has_the_layout_of_its_name(snapshots: dict[str, Snapshot], tree: str) -> None:
    assert snapshots[tree].layout is (Layout.V1 if tree.endswith("_v1") else Layout.V2)


@each_tree
def test_limits_are_sampled_as_they_were_written(snapshots: dict[str, Snapshot], tree: str) -> None:
    samples = by_path(snapshots[tree])
    written = {
        (path, file): text
        for path, known in load(tree, "meta.json")["cgroups"].items()
        for file, text in known["files"].items()
        if file not in NOT_SAMPLED
    }
    found = {(path, file): SETTINGS[file][0](samples[path]) for path, file in written}

    assert found == {(path, file): SETTINGS[file][1](text) for (path, file), text in written.items()}
    assert written


@each_tree
def test_a_limit_that_nobody_wrote_is_no_limit(snapshots: dict[str, Snapshot], tree: str) -> None:
    known = load(tree, "meta.json")["cgroups"]
    free = {
        path: part(sample.memory).limit_bytes
        for path, sample in by_path(snapshots[tree]).items()
        if sample.container.owner.kind in {Kind.CONTAINER, Kind.POD, Kind.QOS}
        and not {"memory.max", "memory.limit_in_bytes"} & known.get(path, {"files": ()})["files"].keys()
    }

    assert set(free.values()) == {math.inf}


@each_tree
def test_work_that_was_done_is_in_the_sample(snapshots: dict[str, Snapshot], tree: str) -> None:
    samples = by_path(snapshots[tree])
    done = {
        (path, what): least
        for path, known in load(tree, "meta.json")["cgroups"].items()
        for what, least in known["at_least"].items()
        if what not in NOT_SAMPLED
    }
    too_little = {
        (path, what): (found, least)
        for (path, what), least in done.items()
        if (found := WORK[what](samples[path])) is None or found < least
    }

    assert too_little == {}
    assert done


@pytest.mark.parametrize("tree", KUBERNETES)
def test_the_network_of_a_pod_is_counted_once_and_that_of_the_host_at_no_pod(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    shown: dict[str | None, int] = {}
    for sample in snapshots[tree].samples:
        owner = sample.container.owner
        if owner.kind is not Kind.ROOT and sample.network is not None:
            assert owner.kind is Kind.CONTAINER
            (card,) = sample.network
            assert card.name == "eth0"
            assert card.transmit_packets_total >= 3
            shown[owner.pod_uid] = shown.get(owner.pod_uid, 0) + 1

    assert shown == {LEDGER: 1, REPORT: 1}


@pytest.mark.parametrize("tree", KUBERNETES)
def test_what_the_runtime_says_fits_the_processes_of_the_cgroups(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    said = load(tree, "cri.json")
    first = {
        sample.container.owner.container_id: sample.core.first_pid
        for sample in snapshots[tree].samples
        if sample.container.owner.kind is Kind.CONTAINER and sample.core
    }

    assert first == {one["id"]: one["pid"] for one in said["sandboxes"] + said["containers"]}


@pytest.mark.parametrize("tree", [tree for tree in KUBERNETES if "crio" in tree])
def test_the_kill_of_a_container_that_is_gone_stays_with_its_pod(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    samples = by_path(snapshots[tree])
    said = load(tree, "cri.json")["containers"][0]
    (again,) = (one for one in samples.values() if one.container.owner.container_id == said["id"])
    pod = samples[again.container.cgroup.path.rpartition("/")[0]]

    assert said["metadata"] == {"name": "db", "attempt": 1}
    assert part(again.memory).events.oom_kill == 0
    assert part(pod.memory).events.oom_group_kill == 1
    assert part(pod.memory).events_local.oom_kill == 0


def test_a_kernel_with_pressure_shows_it_for_every_cgroup(snapshots: dict[str, Snapshot]) -> None:
    snapshot = snapshots["kubernetes_containerd_v2_systemd"]
    for sample in snapshot.samples:
        assert part(sample.pressure).cpu is not None, sample.container.cgroup.path
        assert part(sample.pressure).memory is not None, sample.container.cgroup.path
        assert part(sample.pressure).io is not None, sample.container.cgroup.path
    (throttled,) = (sample for sample in snapshot.samples if part(sample.memory).events_local.oom_kill)

    assert part(throttled.pressure).cpu.some.total_seconds > 1


def test_below_a_user_without_the_cpu_controller_there_is_cpu_time_and_no_limit_of_it(
    snapshots: dict[str, Snapshot],
) -> None:
    below = [
        sample
        for path, sample in by_path(snapshots["podman_rootless_v2"]).items()
        if path.startswith(f"{MANAGER}/")
    ]
    assert len(below) == 13
    for sample in below:
        assert part(sample.cpu).usage_seconds is not None
        assert (part(sample.cpu).quota_microseconds, part(sample.cpu).weight) == (None, None)
        assert sample.io is None
        assert part(sample.memory).limit_bytes is not None


def test_a_kill_by_the_limit_of_the_cgroup_above_is_told_apart(snapshots: dict[str, Snapshot]) -> None:
    samples = by_path(snapshots["podman_rootless_v2"])
    (leaf,) = (sample for sample in samples.values() if part(sample.memory).events_local.oom_kill)
    scope = samples[leaf.container.cgroup.path.rpartition("/")[0]]

    assert leaf.container.cgroup.path.endswith(".scope/container")
    assert (part(leaf.memory).events.oom, part(leaf.memory).events.oom_kill) == (0, 1)
    assert (part(scope.memory).events.oom, part(scope.memory).events.oom_kill) == (1, 1)


def test_a_kill_in_a_container_in_a_container_counts_in_both_on_v2(snapshots: dict[str, Snapshot]) -> None:
    (inner,) = (
        sample
        for sample in snapshots["nested_docker_v2"].samples
        if part(sample.memory).events_local.oom_kill
    )
    outer = inner.container.owner.parent_container_id
    (dind,) = (
        sample
        for sample in snapshots["nested_docker_v2"].samples
        if sample.container.owner.container_id == outer
    )

    assert part(dind.memory).events.oom_kill == 1
    assert part(dind.memory).events_local.oom_kill == 0
