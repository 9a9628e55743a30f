"""What runtimes note on the containers that they make for Kubernetes: the labels of its CRI clients. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

POD, NAMESPACE = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
POD_UID, CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"


class Place(Struct, frozen=True, gc=False):
    """Where in Kubernetes a container is; empty where it is not of Kubernetes."""

    namespace: str = ""
    pod: str = ""
    """The pod's name."""
    container: str = ""
    """The container's name in its pod."""


def place_of(labels: Mapping[str, str]) -> Place:
    """Read the labels of a container."""
    return Place(labels.get(NAMESPACE, ""), labels.get(POD, ""), labels.get(CONTAINER, ""))
