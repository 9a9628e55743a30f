"""Which labels a container's series have: the two schemes that dashboards are written for.

Both give each series the labels of all, as cAdvisor and the kubelet do: to Prometheus an empty label is the
same as none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from cgwatch.metrics.text import escape, label_name
from cgwatch.model import Container, Kind, Runtime


class Scheme(Protocol):
    """How labels are chosen. Pure: the same containers give the same labels."""

    def survey(self, containers: Sequence[Container]) -> Hashable:
        """Return what one container's labels depend on besides itself; another value changes all of them."""

    def encode(self, container: Container, survey: Hashable) -> str:
        """Return the encoded labels of one container."""


class CadvisorScheme:
    """cAdvisor's own: ``id``, ``name``, ``image``, and the container's labels as ``container_label_*``.

    ``shown`` are globs over the keys of container labels; nothing is shown without one.
    """

    def __init__(self, shown: tuple[str, ...] = ()) -> None:
        self._shown = shown

    def survey(self, containers: Sequence[Container]) -> tuple[bool, tuple[tuple[str, tuple[str, ...]], ...]]:
        """Return whether any container has a name, and the labels to show with the keys that make each.

        Keys may differ in what a label's name cannot hold; of those that a container has, the first in
        alphabetical order is shown.
        """
        described = [container.description for container in containers if container.description]
        keys = {key for description in described for key in description.labels} if self._shown else ()
        shown: dict[str, list[str]] = {}
        for key in sorted(keys):
            if any(fnmatchcase(key, glob) for glob in self._shown):
                shown.setdefault(f"container_label_{label_name(key)}", []).append(key)
        labels = tuple((name, tuple(shown[name])) for name in sorted(shown))
        return any(map(container_name, containers)), labels

    def encode(self, container: Container, survey: Hashable) -> str:
        """Return ``id`` and what the survey found."""
        assert isinstance(survey, tuple)  # noqa: S101 - it is our own, from above
        has_names, shown = survey
        description = container.description
        labels = {"id": container.cgroup.path}
        if has_names:
            labels |= {"name": container_name(container), "image": description.image if description else ""}
        said: Mapping[str, str] = description.labels if description else {}
        for name, keys in shown:
            labels[name] = next((said[key] for key in keys if key in said), "")
        return _encoded(labels)


_POD, _NAMESPACE = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
_POD_UID, _CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"


class KubeletScheme:
    """The kubelet's, on its ``/metrics/cadvisor``: exactly six labels, empty where there is nothing to say.

    Pod, namespace and container are those that runtimes note on the containers they make for Kubernetes.
    """

    def survey(self, containers: Sequence[Container]) -> tuple[tuple[str, str, str], ...]:
        """Return uid, name and namespace of each pod: its own cgroup is no container with labels."""
        said = [container.description.labels for container in containers if container.description]
        pods = {
            (labels[_POD_UID], labels.get(_POD, ""), labels.get(_NAMESPACE, ""))
            for labels in said
            if _POD_UID in labels
        }
        return tuple(sorted(pods))

    def encode(self, container: Container, survey: Hashable) -> str:
        """Return the six labels."""
        assert isinstance(survey, tuple)  # noqa: S101 - it is our own, from above
        description = container.description
        said: Mapping[str, str] = description.labels if description else {}
        pod, namespace = said.get(_POD, ""), said.get(_NAMESPACE, "")
        if container.owner.kind is Kind.POD:
            pods = {uid: (name, space) for uid, name, space in survey}
            pod, namespace = pods.get(container.owner.pod_uid or "", ("", ""))
        return _encoded(
            {
                "container": said.get(_CONTAINER, ""),
                "id": container.cgroup.path,
                "image": description.image if description else "",
                "name": container_name(container),
                "namespace": namespace,
                "pod": pod,
            }
        )


SCHEMES: Mapping[str, Callable[[tuple[str, ...]], Scheme]] = {
    "cadvisor": CadvisorScheme,
    "kubelet": lambda _shown: KubeletScheme(),
}
"""Schemes by their name in the configuration, made with the container labels to show."""


def container_name(container: Container) -> str:
    """Return the container's name, or the id of one that the runtime's API has not named (yet).

    containerd's containers have no names: cAdvisor shows their id, too.
    """
    if container.description:
        return container.description.name
    owner = container.owner
    if owner.kind is Kind.CONTAINER and owner.runtime in (Runtime.CONTAINERD, Runtime.LXC):
        return owner.container_id or ""
    return ""


def _encoded(labels: Mapping[str, str]) -> str:
    return ",".join([f'{name}="{escape(value)}"' for name, value in labels.items()])
