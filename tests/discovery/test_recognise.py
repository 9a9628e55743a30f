"""Paths as real nodes show them, with ids and uids of our own."""

from __future__ import annotations

from typing import TypedDict, Unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.discovery.recognise import RULES, Rule, recognise
from cgwatch.model import Kind, Owner, Runtime

C = "c0ffee" + "0" * 58
"""A container's id."""
D = "d00d" + "1" * 60
"""The id of a container inside, or of a Podman pod."""
UID = "2edf54f8-6911-449f-9abe-3d468a770d6b"
SLICED = UID.replace("-", "_")
STATIC = "36b6d6be73b1065af369b3985edafa09"
KIND = "/kubelet.slice/kubelet-kubepods.slice"
ROOTLESS = "/user.slice/user-1000.slice/user@1000.service"


class Pod(TypedDict, total=False):
    pod_uid: str
    qos_class: str


class Rest(Pod, total=False):
    unit: str
    user_id: int
    parent_container_id: str


def container(runtime: Runtime, container_id: str = C, **rest: Unpack[Rest]) -> Owner:
    return Owner(Kind.CONTAINER, runtime, container_id=container_id, **rest)


def unit(
    name: str, user_id: int | None = None, parent_container_id: str | None = None, **pod: Unpack[Pod]
) -> Owner:
    return Owner(
        Kind.UNIT, Runtime.SYSTEMD, unit=name, user_id=user_id, parent_container_id=parent_container_id, **pod
    )


def plain(**rest: Unpack[Rest]) -> Owner:
    return Owner(Kind.PLAIN, Runtime.NONE, **rest)


def kubernetes(kind: Kind, **rest: Unpack[Rest]) -> Owner:
    return Owner(kind, Runtime.KUBERNETES, **rest)


def kube(qos_class: str, uid: str = UID) -> Pod:
    return {"pod_uid": uid, "qos_class": qos_class}


ROOT = Owner(Kind.ROOT, Runtime.NONE)

# Where it comes from, the path, whose it is.
PATHS: list[tuple[str, str, Owner]] = [
    ("the root", "/", ROOT),
    ("no text", "", ROOT),
    ("nothing but empty components", "///", ROOT),
    # Docker
    ("docker, cgroupfs driver", f"/docker/{C}", container(Runtime.DOCKER)),
    ("docker --cgroup-parent=/my/parent", f"/my/parent/{C}", container(Runtime.DOCKER)),
    ("docker --cgroup-parent=/", f"/{C}", container(Runtime.DOCKER)),
    (
        "docker, systemd driver",
        f"/system.slice/docker-{C}.scope",
        container(Runtime.DOCKER, unit=f"docker-{C}.scope"),
    ),
    (
        "docker --cgroup-parent=batch-low.slice",
        f"/batch.slice/batch-low.slice/docker-{C}.scope",
        container(Runtime.DOCKER, unit=f"docker-{C}.scope"),
    ),
    (
        "rootless docker",
        f"{ROOTLESS}/user.slice/docker-{C}.scope",
        container(Runtime.DOCKER, unit=f"docker-{C}.scope", user_id=1000),
    ),
    (
        "docker with runc on cgroupfs and a systemd parent",
        f"/system.slice:docker:{C}",
        container(Runtime.DOCKER),
    ),
    ("a GitHub Actions job", f"/actions_job/{C}", container(Runtime.DOCKER)),
    ("an ECS task on EC2", f"/ecs/{STATIC}/{C}", container(Runtime.DOCKER)),
    ("docker's parent directory", "/docker", plain()),
    ("BuildKit inside dockerd", "/docker/buildkit/x8jxzlnv2lmn7i3zcyi9qj1vq", plain()),
    ("a short id is nobody's", f"/docker/{C[:12]}", plain()),
    ("an id in capitals is nobody's", f"/docker/{C.upper()}", plain()),
    ("65 digits are no id", f"/docker/{C}0", plain()),
    # containerd, kubelet
    ("kubepods, cgroupfs driver", "/kubepods", kubernetes(Kind.QOS)),
    (
        "a level, cgroupfs driver",
        "/kubepods/besteffort",
        kubernetes(Kind.QOS, qos_class="besteffort"),
    ),
    ("a pod, cgroupfs driver", f"/kubepods/burstable/pod{UID}", kubernetes(Kind.POD, **kube("burstable"))),
    (
        "a container, cgroupfs driver",
        f"/kubepods/burstable/pod{UID}/{C}",
        container(Runtime.CONTAINERD, **kube("burstable")),
    ),
    ("a guaranteed pod, cgroupfs driver", f"/kubepods/pod{UID}", kubernetes(Kind.POD, **kube("guaranteed"))),
    (
        "a guaranteed container, cgroupfs driver",
        f"/kubepods/pod{UID}/{C}",
        container(Runtime.CONTAINERD, **kube("guaranteed")),
    ),
    (
        "a static pod's container, cgroupfs driver",
        f"/kubepods/burstable/pod{STATIC}/{C}",
        container(Runtime.CONTAINERD, **kube("burstable", STATIC)),
    ),
    (
        "kubelet --cgroup-root=/kubelet, cgroupfs driver",
        f"/kubelet/kubepods/besteffort/pod{UID}/{C}",
        container(Runtime.CONTAINERD, **kube("besteffort")),
    ),
    (
        "kubepods, systemd driver",
        "/kubepods.slice",
        kubernetes(Kind.QOS, unit="kubepods.slice"),
    ),
    (
        "a level, systemd driver",
        "/kubepods.slice/kubepods-burstable.slice",
        kubernetes(Kind.QOS, qos_class="burstable", unit="kubepods-burstable.slice"),
    ),
    (
        "a pod, systemd driver",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED}.slice",
        kubernetes(Kind.POD, **kube("burstable"), unit=f"kubepods-burstable-pod{SLICED}.slice"),
    ),
    (
        "a guaranteed pod, systemd driver",
        f"/kubepods.slice/kubepods-pod{SLICED}.slice",
        kubernetes(Kind.POD, **kube("guaranteed"), unit=f"kubepods-pod{SLICED}.slice"),
    ),
    (
        "a container, systemd driver (EKS, GKE, k3s --kubelet-arg=cgroup-driver=systemd)",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice/cri-containerd-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"cri-containerd-{C}.scope", **kube("besteffort")),
    ),
    (
        "a static pod's container, systemd driver",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"cri-containerd-{C}.scope", **kube("burstable", STATIC)),
    ),
    (
        "kind, seen from inside the node",
        f"{KIND}/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SLICED}.slice/cri-containerd-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"cri-containerd-{C}.scope", **kube("besteffort")),
    ),
    (
        "kubepods of kind",
        "/kubelet.slice/kubelet-kubepods.slice",
        kubernetes(Kind.QOS, unit="kubelet-kubepods.slice"),
    ),
    ("kubelet.slice of kind is an ordinary slice", "/kubelet.slice", unit("kubelet.slice")),
    (
        "kubelet on systemd and containerd on cgroupfs (containerd issue 4900)",
        f"/system.slice/containerd.service/kubepods-besteffort-pod{SLICED}.slice:cri-containerd:{C}",
        container(Runtime.CONTAINERD, **kube("besteffort")),
    ),
    (
        "the same, guaranteed, with containerd's cgroup.path set",
        f"/hello/kubepods-pod{SLICED}.slice:cri-containerd:{C}",
        container(Runtime.CONTAINERD, **kube("guaranteed")),
    ),
    (
        "cri-dockerd, systemd driver",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice/docker-{C}.scope",
        container(Runtime.DOCKER, unit=f"docker-{C}.scope", **kube("besteffort")),
    ),
    (
        "crictl with a sandbox whose cgroup_parent is a slice (containerd/cri PR 290)",
        f"/system.slice/system-getty.slice/cri-containerd-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"cri-containerd-{C}.scope"),
    ),
    ("crictl with a sandbox that has no cgroup_parent", f"/k8s.io/{C}", container(Runtime.CONTAINERD)),
    ("nerdctl, cgroupfs driver", f"/default/{C}", container(Runtime.CONTAINERD)),
    (
        "nerdctl, systemd driver",
        f"/system.slice/nerdctl-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"nerdctl-{C}.scope"),
    ),
    (
        "rootless nerdctl",
        f"{ROOTLESS}/user.slice/nerdctl-{C}.scope",
        container(Runtime.CONTAINERD, unit=f"nerdctl-{C}.scope", user_id=1000),
    ),
    ("ctr run has free names", "/default/my-test", plain()),
    ("besteffort without kubepods is a word", "/besteffort", plain()),
    ("pod<uid> without kubepods is a word", f"/pod{UID}", plain()),
    # CRI-O
    (
        "CRI-O, systemd driver (OpenShift)",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED}.slice/crio-{C}.scope",
        container(Runtime.CRIO, unit=f"crio-{C}.scope", **kube("burstable")),
    ),
    (
        "the leaf that crun makes in CRI-O's scope",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED}.slice/crio-{C}.scope/container",
        plain(parent_container_id=C, **kube("burstable")),
    ),
    (
        "CRI-O, cgroupfs driver",
        f"/kubepods/besteffort/pod{UID}/crio-{C}",
        container(Runtime.CRIO, **kube("besteffort")),
    ),
    (
        "CRI-O's monitor, systemd driver",
        f"/kubepods.slice/kubepods-pod{SLICED}.slice/crio-conmon-{C}.scope",
        unit(f"crio-conmon-{C}.scope", **kube("guaranteed")),
    ),
    (
        "CRI-O's monitor, cgroupfs driver",
        f"/kubepods/besteffort/pod{UID}/crio-conmon-{C}",
        plain(**kube("besteffort")),
    ),
    # Podman
    (
        "podman as root, systemd manager",
        f"/machine.slice/libpod-{C}.scope",
        container(Runtime.PODMAN, unit=f"libpod-{C}.scope"),
    ),
    (
        "the leaf that crun makes in podman's scope",
        f"/machine.slice/libpod-{C}.scope/container",
        plain(parent_container_id=C),
    ),
    ("podman, cgroupfs manager", f"/libpod_parent/libpod-{C}", container(Runtime.PODMAN)),
    (
        "rootless podman",
        f"{ROOTLESS}/user.slice/libpod-{C}.scope",
        container(Runtime.PODMAN, unit=f"libpod-{C}.scope", user_id=1000),
    ),
    (
        "the leaf in rootless podman's scope",
        f"{ROOTLESS}/user.slice/libpod-{C}.scope/container",
        plain(user_id=1000, parent_container_id=C),
    ),
    ("podman's monitor", f"/machine.slice/libpod-conmon-{C}.scope", unit(f"libpod-conmon-{C}.scope")),
    ("podman's monitor, cgroupfs manager", f"/libpod_parent/libpod-conmon-{C}", plain()),
    (
        "a podman pod (podman issue 13673)",
        f"/machine.slice/machine-libpod_pod_{D}.slice",
        Owner(Kind.POD, Runtime.PODMAN, unit=f"machine-libpod_pod_{D}.slice"),
    ),
    (
        "a container in a podman pod",
        f"/machine.slice/machine-libpod_pod_{D}.slice/libpod-{C}.scope",
        container(Runtime.PODMAN, unit=f"libpod-{C}.scope"),
    ),
    (
        "a rootless podman pod",
        f"{ROOTLESS}/user.slice/user-libpod_pod_{D}.slice",
        Owner(Kind.POD, Runtime.PODMAN, unit=f"user-libpod_pod_{D}.slice", user_id=1000),
    ),
    ("a podman pod, cgroupfs manager", f"/libpod_parent/{D}", Owner(Kind.POD, Runtime.PODMAN)),
    ("a container in it", f"/libpod_parent/{D}/libpod-{C}", container(Runtime.PODMAN)),
    (
        "a Quadlet service, podman --cgroups=split",
        f"/system.slice/nginx.service/libpod-payload-{C}",
        container(Runtime.PODMAN),
    ),
    (
        "a rootless Quadlet service",
        f"{ROOTLESS}/app.slice/redis.service/libpod-payload-{C}",
        container(Runtime.PODMAN, user_id=1000),
    ),
    ("the monitor of a Quadlet service", "/system.slice/nginx.service/runtime", plain()),
    # LXC
    ("LXC before 3", "/lxc/web", container(Runtime.LXC, "web")),
    ("LXC 3", "/lxc.payload/web", container(Runtime.LXC, "web")),
    ("LXC 4, LXD, Incus, Waydroid", "/lxc.payload.web", container(Runtime.LXC, "web")),
    ("LXD, project and name", "/lxc.payload.gha-fleet_worker", container(Runtime.LXC, "gha-fleet_worker")),
    ("LXC's monitor", "/lxc.monitor.web", plain()),
    ("LXC 3's monitor", "/lxc.monitor/web", plain()),
    ("LXC's parent directory", "/lxc", plain()),
    ("Proxmox, where the limits are", "/lxc/101", container(Runtime.LXC, "101")),
    ("Proxmox, where the processes are", "/lxc/101/ns", plain(parent_container_id="101")),
    (
        "a service in a Proxmox container",
        "/lxc/101/ns/system.slice/nginx.service",
        unit("nginx.service", parent_container_id="101"),
    ),
    ("LXC in LXC", "/lxc/a/lxc/b", container(Runtime.LXC, "b", parent_container_id="a")),
    ("an LXC container whose name is lxc", "/lxc/lxc/x", plain(parent_container_id="lxc")),
    ("an LXC container with a unit's name", "/lxc/web.service", container(Runtime.LXC, "web.service")),
    # systemd
    ("a service", "/system.slice/ssh.service", unit("ssh.service")),
    ("a slice", "/system.slice", unit("system.slice")),
    (
        "a template and its slice",
        "/system.slice/system-getty.slice/getty@tty1.service",
        unit("getty@tty1.service"),
    ),
    ("PID 1", "/init.scope", unit("init.scope")),
    ("a login", "/user.slice/user-1000.slice/session-2.scope", unit("session-2.scope")),
    ("a user's systemd", ROOTLESS, unit("user@1000.service")),
    (
        "an application of a desktop",
        f"{ROOTLESS}/app.slice/app-gnome-org.gnome.Terminal-3172.scope",
        unit("app-gnome-org.gnome.Terminal-3172.scope", user_id=1000),
    ),
    ("an escape", r"/system.slice/dev-disk-by\x2dlabel-EFI.swap", unit(r"dev-disk-by\x2dlabel-EFI.swap")),
    ("a mount", "/system.slice/boot-efi.mount", unit("boot-efi.mount")),
    ("a socket", "/system.slice/dbus.socket", unit("dbus.socket")),
    ("the root slice, as systemd prints it", "/-.slice", unit("-.slice")),
    ("a unit named like a kernel file", "/system.slice/_cpu.service", unit("cpu.service")),
    ("systemd-nspawn", "/machine.slice/machine-debian.scope", unit("machine-debian.scope")),
    ("systemd-nspawn@.service", "/machine.slice/systemd-nspawn@deb.service/payload", plain()),
    (
        "libvirt",
        r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
        unit(r"machine-qemu\x2d1\x2dvm.scope"),
    ),
    ("libvirt's threads", r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/vcpu0", plain()),
    ("containerd itself", "/system.slice/containerd.service", unit("containerd.service")),
    ("a timer has no cgroup, so this is only a name", "/apt-daily.timer", plain()),
    # Nested
    ("docker in docker", f"/docker/{C}/docker/{D}", container(Runtime.DOCKER, D, parent_container_id=C)),
    ("where docker:dind puts itself on cgroup v2", f"/docker/{C}/init", plain(parent_container_id=C)),
    (
        "systemd in a container",
        f"/docker/{C}/system.slice/ssh.service",
        unit("ssh.service", parent_container_id=C),
    ),
    (
        "systemd in a container with docker's systemd driver",
        f"/system.slice/docker-{C}.scope/init.scope",
        unit("init.scope", parent_container_id=C),
    ),
    (
        "kind, cgroup v1",
        f"/docker/{C}/kubelet/kubepods/besteffort/pod{UID}/{D}",
        container(Runtime.CONTAINERD, D, parent_container_id=C, **kube("besteffort")),
    ),
    (
        "kind, cgroup v2, docker's systemd driver",
        f"/system.slice/docker-{C}.scope{KIND}/kubelet-kubepods-pod{SLICED}.slice/cri-containerd-{D}.scope",
        container(
            Runtime.CONTAINERD,
            D,
            unit=f"cri-containerd-{D}.scope",
            parent_container_id=C,
            **kube("guaranteed"),
        ),
    ),
    (
        "minikube with CRI-O in docker (minikube issue 11280)",
        f"/docker/{C}/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice/crio-{D}.scope",
        container(Runtime.CRIO, D, unit=f"crio-{D}.scope", parent_container_id=C, **kube("besteffort")),
    ),
    (
        "k3d",
        f"/docker/{C}/kubepods/burstable/pod{UID}",
        kubernetes(Kind.POD, **kube("burstable"), parent_container_id=C),
    ),
    (
        "docker in a Kubernetes pod keeps the pod",
        f"/kubepods/burstable/pod{UID}/{C}/docker/{D}",
        container(Runtime.DOCKER, D, parent_container_id=C, **kube("burstable")),
    ),
    (
        "kind in a Kubernetes pod: the inner kubelet's level",
        f"/kubepods/burstable/pod{UID}/{C}/kubepods",
        kubernetes(Kind.QOS, parent_container_id=C),
    ),
    (
        "a podman container in a docker container in an LXC container",
        f"/lxc.payload.ci/docker/{C}/libpod_parent/libpod-{D}",
        container(Runtime.PODMAN, D, parent_container_id=C),
    ),
    (
        "an id in a container's own cgroup",
        f"/docker/{C}/{D}",
        container(Runtime.DOCKER, D, parent_container_id=C),
    ),
    # Anything
    ("made by hand", "/mycg/demo", plain()),
    ("slurm", "/slurm/uid_1000/job_7/step_0", plain()),
    ("components of a foreign cgroup namespace", f"/../../docker/{C}", container(Runtime.DOCKER)),
    ("a dot in between", "/./a/..", plain()),
    ("empty components", f"//docker//{C}/", container(Runtime.DOCKER)),
    ("no slash in front", f"docker/{C}", container(Runtime.DOCKER)),
    ("not ASCII", "/контейнер/été.service", plain()),
    ("digits that are not ASCII", "/user@\N{FULLWIDTH DIGIT ONE}000.service/app.slice", unit("app.slice")),
    ("a newline after an id", f"/docker/{C}\n", plain()),
    ("a uid that no integer field holds", "/user@" + "9" * 5000 + ".service/app.slice", unit("app.slice")),
]


@pytest.mark.parametrize(("path", "expected"), [row[1:] for row in PATHS], ids=[row[0] for row in PATHS])
def test_a_path_tells_whose_cgroup_it_is(path: str, expected: Owner) -> None:
    assert recognise(path) == expected


@pytest.mark.parametrize("rule", RULES, ids=[rule.name.pattern for rule in RULES])
def test_no_rule_can_be_taken_out_of_the_table(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = tuple(other for other in RULES if other is not rule)
    monkeypatch.setattr("cgwatch.discovery.recognise.RULES", rest)
    assert any(recognise(path) != expected for _, path, expected in PATHS)


_PIECES = st.sampled_from(
    ["docker", C, D, "kubepods", "burstable", f"pod{UID}", "lxc", f"crio-{C}.scope", "a.service", "..", ""]
)


@given(st.one_of(st.text(), st.lists(st.one_of(st.text(), _PIECES)).map("/".join)))
def test_any_text_gives_an_owner_that_is_consistent(path: str) -> None:
    owner = recognise(path)
    assert (owner.kind is Kind.CONTAINER) == (owner.container_id is not None)
    assert (owner.kind is Kind.UNIT) <= (owner.unit is not None)
    assert (owner.kind is Kind.PLAIN) <= (owner.runtime is Runtime.NONE)
    assert owner.container_id != ""
    assert owner.pod_uid != ""


@given(st.lists(st.one_of(st.text(), _PIECES)).map("/".join), st.sampled_from(["x", "a.service", C]))
def test_whatever_lies_in_a_container_names_that_container(path: str, name: str) -> None:
    outer = recognise(path)
    inner = recognise(f"{path}/{name}")
    assert inner.parent_container_id == (outer.container_id or outer.parent_container_id)


def test_a_path_as_long_as_the_kernel_allows_and_longer_is_answered() -> None:
    assert recognise("/a" * 20_000 + f"/docker/{C}") == container(Runtime.DOCKER)
    assert recognise("/" + "a-" * 50_000) == plain()
