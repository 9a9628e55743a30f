"""Whose cgroup is this? All that follows from its path alone.

``RULES`` is the table; the first rule that fits a directory decides what it is. A path is read from the root
inwards, so a directory knows what it lies in, and inside a container the reading begins anew: a systemd or a
kubelet in there makes the same directories as one outside.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from cgwatch.model import Kind, Owner, Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rule(Struct, frozen=True):
    """One form of directory; the groups ``id``, ``uid``, ``qos`` and ``unit`` of its name go to ``Owner``."""

    name: re.Pattern[str]
    """Must match the whole name of the directory."""
    kind: Kind
    runtime: Runtime
    below: frozenset[str] = frozenset()
    """If not empty: the directory it lies in has one of these names, and is itself no container."""
    within: frozenset[Kind] = frozenset()
    """If not empty: the directory it lies in is of one of these kinds."""


_ID = r"(?P<id>[0-9a-f]{64})"
# A pod's uid is a UUID; a static pod's is the hash of its manifest, or whatever the manifest says.
# In a slice's name every dash of it is an underscore, as a dash there means a level of the tree.
_SLICED_UID = r"(?P<uid>[0-9A-Za-z_.]+)"
_QOS = r"(?P<qos>besteffort|burstable|guaranteed)"
# kubelet --cgroup-root=/kubelet (kind has it) gives every slice the prefix "kubelet-".
_KUBEPODS = r"(?:[^/:]+-)?kubepods"
_POD_SLICE = rf"{_KUBEPODS}(?:-{_QOS})?-pod{_SLICED_UID}\.slice"
_SLICE = rf"(?:{_POD_SLICE}|[^/:]*)"


def _containers(name: str, runtime: Runtime) -> Rule:
    return Rule(re.compile(name), Kind.CONTAINER, runtime)


RULES: tuple[Rule, ...] = (
    # The systemd cgroup driver makes one scope for each container: <runtime>-<id>.scope.
    _containers(rf"(?P<unit>docker-{_ID}\.scope)", Runtime.DOCKER),
    _containers(rf"(?P<unit>(?:cri-containerd|nerdctl)-{_ID}\.scope)", Runtime.CONTAINERD),
    _containers(rf"(?P<unit>crio-{_ID}\.scope)", Runtime.CRIO),
    _containers(rf"crio-{_ID}", Runtime.CRIO),
    _containers(rf"(?P<unit>libpod-{_ID}\.scope)", Runtime.PODMAN),
    # libpod-payload-: "podman run --cgroups=split", and so every Quadlet service.
    _containers(rf"libpod-(?:payload-)?{_ID}", Runtime.PODMAN),
    # "slice:prefix:id" is what a runtime is told to hand to systemd. It becomes a directory of that name when
    # kubelet uses systemd and the runtime does not (containerd issue 4900).
    _containers(rf"{_SLICE}:(?:cri-containerd|nerdctl):{_ID}", Runtime.CONTAINERD),
    _containers(rf"{_SLICE}:docker:{_ID}", Runtime.DOCKER),
    # Pods and quality-of-service levels, systemd driver ...
    Rule(re.compile(rf"(?P<unit>{_POD_SLICE})"), Kind.POD, Runtime.KUBERNETES),
    Rule(re.compile(rf"(?P<unit>{_KUBEPODS}(?:-{_QOS})?\.slice)"), Kind.QOS, Runtime.KUBERNETES),
    Rule(
        re.compile(r"(?P<unit>(?:[^/:]+-)?libpod_pod_[0-9a-f]{64}\.slice)"),
        Kind.POD,
        Runtime.PODMAN,
    ),
    # ... and cgroupfs driver, where only the place tells.
    Rule(re.compile(r"kubepods"), Kind.QOS, Runtime.KUBERNETES),
    Rule(re.compile(_QOS), Kind.QOS, Runtime.KUBERNETES, within=frozenset({Kind.QOS})),
    Rule(
        re.compile(r"pod(?P<uid>[0-9A-Za-z_.-]+)"),
        Kind.POD,
        Runtime.KUBERNETES,
        within=frozenset({Kind.QOS}),
    ),
    # LXC names its containers. 4.0 and later: lxc.payload.<name>; 3.x: lxc.payload/<name>; before, and on
    # Proxmox: lxc/<name>. The monitor beside it (lxc.monitor.<name>) is LXC's own process, not the container.
    Rule(re.compile(r"lxc\.payload\.(?P<id>[^/]+)"), Kind.CONTAINER, Runtime.LXC),
    Rule(
        re.compile(r"(?P<id>[^/]+)"),
        Kind.CONTAINER,
        Runtime.LXC,
        below=frozenset({"lxc", "lxc.payload"}),
    ),
    # A bare id is the cgroupfs driver's. Its parent is a pod, containerd's namespace, or anything that
    # --cgroup-parent said. kubelet with Docker looks the same as with containerd; Docker's API will tell.
    Rule(
        re.compile(_ID),
        Kind.CONTAINER,
        Runtime.CONTAINERD,
        within=frozenset({Kind.POD, Kind.QOS}),
    ),
    Rule(re.compile(_ID), Kind.CONTAINER, Runtime.CONTAINERD, below=frozenset({"default", "k8s.io"})),
    Rule(re.compile(r"[0-9a-f]{64}"), Kind.POD, Runtime.PODMAN, below=frozenset({"libpod_parent"})),
    _containers(_ID, Runtime.DOCKER),
    # systemd puts "_" before a unit whose name could be a kernel file's (cg_escape: "_cpu.service").
    Rule(
        re.compile(r"_?(?P<unit>[0-9A-Za-z:_.@\\-]+\.(?:service|scope|slice|mount|socket|swap))"),
        Kind.UNIT,
        Runtime.SYSTEMD,
    ),
)
"""The most telling form first: names that say their runtime, then places, then anything that systemd made."""

_ROOT = Owner(Kind.ROOT, Runtime.NONE)
_USER_MANAGER = re.compile(r"user@(?P<user>[0-9]{1,10})\.service")


def recognise(path: str) -> Owner:
    """Say whose cgroup ``path`` is; any text gives an answer, and ``PLAIN`` is one.

    ``path`` counts from the root of the hierarchy. What lies inside a container keeps the pod and the user
    of that container and says it in ``parent_container_id``; what lies below ``user@<uid>.service`` says
    ``user_id``. A bare id that nothing else explains is taken for Docker's.

    Sources of the forms: runc's libcontainer (``docker-<id>.scope``, ``slice:prefix:name``), kubelet's
    cgroup manager (``kubepods``), containerd, CRI-O, Podman, LXC and systemd's CONTROL_GROUP_INTERFACE.
    """
    owner, lies_in = _ROOT, ""
    for name in path.split("/"):
        if name:
            owner = _enter(owner, lies_in, name)
            lies_in = name
    return owner


def _enter(parent: Owner, lies_in: str, name: str) -> Owner:
    """Whose the directory ``name`` is in the directory ``lies_in``, which is ``parent``'s."""
    nested = parent.kind is Kind.CONTAINER
    enclosing = parent.container_id if nested else parent.parent_container_id
    manager = _USER_MANAGER.fullmatch(lies_in)
    user_id = int(manager["user"]) if manager else parent.user_id
    pod_uid, qos_class = parent.pod_uid, parent.qos_class
    for rule in RULES:
        if (rule.below and (nested or lies_in not in rule.below)) or (
            rule.within and parent.kind not in rule.within
        ):
            continue
        found = rule.name.fullmatch(name)
        if found is None:
            continue
        groups = found.groupdict()
        if rule.runtime is Runtime.KUBERNETES or groups.get("uid"):
            pod_uid, qos_class = _pod(rule, groups, parent)
        return Owner(
            kind=rule.kind,
            runtime=rule.runtime,
            container_id=groups.get("id"),
            pod_uid=pod_uid,
            qos_class=qos_class,
            unit=groups.get("unit"),
            user_id=user_id,
            parent_container_id=enclosing,
        )
    return Owner(
        Kind.PLAIN,
        Runtime.NONE,
        pod_uid=pod_uid,
        qos_class=qos_class,
        user_id=user_id,
        parent_container_id=enclosing,
    )


def _pod(rule: Rule, groups: Mapping[str, str | None], parent: Owner) -> tuple[str | None, str | None]:
    """Give the uid of the pod as the API has it, and the quality-of-service class."""
    uid, qos_class = groups.get("uid"), groups.get("qos")
    if uid is None:
        return None, qos_class
    # Guaranteed pods lie beside the levels of the others, with no level of their own.
    if rule.within:
        return uid, parent.qos_class or "guaranteed"
    return uid.replace("_", "-"), qos_class or "guaranteed"
