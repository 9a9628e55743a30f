"""What a policy knows of a cgroup by which it may match. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from cgwatch.model import Container

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"


class Subject(Struct, frozen=True):
    """A cgroup, and whose it is. Its identity is (path, inode)."""

    path: str
    inode: int
    kind: str
    runtime: str
    name: str | None = None
    image: str | None = None
    namespace: str | None = None
    pod: str | None = None
    unit: str | None = None
    labels: Mapping[str, str] | None = None
    """``None``: no runtime has told of it yet, so nothing is known to be absent either."""


def subject_of(container: Container) -> Subject:
    """Return what is known of a container."""
    owner, described = container.owner, container.description
    labels = described.labels if described else None
    return Subject(
        path=container.cgroup.path,
        inode=container.cgroup.inode,
        kind=owner.kind,
        runtime=described.runtime if described else owner.runtime,
        name=described.name if described else None,
        image=described.image if described else None,
        namespace=(labels or {}).get(POD_NAMESPACE),
        pod=(labels or {}).get(POD_NAME),
        unit=owner.unit,
        labels=labels,
    )
