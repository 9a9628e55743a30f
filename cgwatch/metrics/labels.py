"""Which labels a container's series have: the two schemes that dashboards are written for.

Both give each series the labels of all, as cAdvisor and the kubelet do: to Prometheus an empty label is the
same as none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from typing import Protocol

from msgspec import Struct

from cgwatch.discovery.kubernetes import POD_UID, Place, place_of
from cgwatch.metrics.text import escape, label_name
from cgwatch.model import Container, Description, Kind, Runtime


class Shown(Struct, frozen=True):
    """Which labels of containers are shown, and how much of them."""

    globs: tuple[str, ...] = ()
    """Over their keys; nothing is shown without one."""
    renames: Mapping[str, str] = {}
    """Key -> the label's name, for those that are not to be called ``container_label_*``."""
    most_labels: float = math.inf
    most_bytes: float = math.inf
    """Of a value, in UTF-8; the rest is cut off."""


class LabelCensus(Struct, frozen=True):
    """What could not be shown of the containers' labels."""

    collisions: int = 0
    """Values hidden by another key of the same container that makes the same label name."""
    left_out: int = 0
    """Label names beyond the bound on their number."""
    cut_total: int = 0
    """Values that were too long, each time that they were encoded."""


class Survey(Struct, frozen=True):
    """What the labels of one container depend on besides itself."""

    has_names: bool = False
    """Whether any container has one."""
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The labels to show, and the keys that make each."""
    pods: tuple[tuple[str, str, str], ...] = ()
    """Uid, name and namespace of each pod: its own cgroup is no container with labels."""


class Scheme(Protocol):
    """How labels are chosen: the same containers give the same labels, in whatever order they come."""

    @property
    def census(self) -> LabelCensus:
        """What the last survey found, and what was cut since the start."""

    def survey(self, containers: Sequence[Container]) -> Survey:
        """Return what one container's labels depend on besides itself; another value changes all of them."""

    def encode(self, container: Container, survey: Survey) -> str:
        """Return the encoded labels of one container."""


class CadvisorScheme:
    """cAdvisor's own: ``id``, ``name``, ``image``, and the container's labels as ``container_label_*``."""

    def __init__(self, shown: Shown | None = None) -> None:
        self._shown = shown or Shown()
        self._is_wanted = re.compile("|".join(map(translate, self._shown.globs))).match
        # Who has how many labels is up to the containers: the keys of each are looked at once.
        self._keys: dict[int, tuple[Description, tuple[str, ...], int]] = {}
        self._cut = Cutter(self._shown.most_bytes)
        self._collisions = self._left_out = 0

    @property
    def census(self) -> LabelCensus:
        """As the protocol says."""
        return LabelCensus(self._collisions, self._left_out, self._cut.count)

    def survey(self, containers: Sequence[Container]) -> Survey:
        """Return the labels to show, each with the keys that make it.

        Keys may differ in what a label's name cannot hold; of those that a container has, the first in
        alphabetical order is shown. A name given by ``renames`` comes before one that is made of a key.
        """
        described = [container.description for container in containers if container.description]
        self._keys = {id(said): self._keys.get(id(said)) or self._look_at(said) for said in described}
        shown: dict[str, set[str]] = {}
        for _, keys, _ in self._keys.values():
            for key in keys:
                shown.setdefault(self._name(key), set()).add(key)
        names = sorted(shown, key=lambda name: (name.startswith(_PREFIX), name))
        kept = names[: int(min(self._shown.most_labels, len(names)))]
        self._collisions = sum(count for _, _, count in self._keys.values())
        self._left_out = len(names) - len(kept)
        labels = tuple((name, tuple(sorted(shown[name]))) for name in sorted(kept))
        return Survey(any(map(container_name, containers)), labels)

    def _look_at(self, said: Description) -> tuple[Description, tuple[str, ...], int]:
        """Return the keys that may be shown, and how many are hidden by another one of the same name."""
        wanted, renames = self._is_wanted, self._shown.renames
        if not self._shown.globs and not renames:
            return said, (), 0
        by_name: dict[str, str] = {}
        keys = [key for key in said.labels if key in renames or (self._shown.globs and wanted(key))]
        for key in sorted(keys):
            by_name.setdefault(self._name(key), key)
        # More of one container than fit on the page for all of them cannot be shown anyway; one more than
        # that tells that some are left out.
        most = int(min(self._shown.most_labels, len(by_name))) + 1
        names = sorted(by_name, key=lambda name: (name.startswith(_PREFIX), name))[:most]
        return said, tuple(by_name[name] for name in names), len(keys) - len(by_name)

    def _name(self, key: str) -> str:
        return self._shown.renames.get(key) or f"{_PREFIX}{label_name(key)}"

    def encode(self, container: Container, survey: Survey) -> str:
        """Return ``id`` and what the survey found."""
        description = container.description
        labels = {}
        if survey.has_names:
            labels = {"name": container_name(container), "image": description.image if description else ""}
        said: Mapping[str, str] = description.labels if description else {}
        for name, keys in survey.labels:
            labels[name] = next((said[key] for key in keys if key in said), "")
        cut = {name: self._cut(value) for name, value in labels.items()}
        return _encoded({"id": container.cgroup.path} | cut)


_PREFIX = "container_label_"


class KubeletScheme:
    """The kubelet's, on its ``/metrics/cadvisor``: exactly six labels, empty where there is nothing to say.

    Pod, namespace and container are those that runtimes note on the containers they make for Kubernetes.
    """

    def __init__(self, shown: Shown | None = None) -> None:
        self._cut = Cutter((shown or Shown()).most_bytes)

    @property
    def census(self) -> LabelCensus:
        """As the protocol says."""
        return LabelCensus(cut_total=self._cut.count)

    def survey(self, containers: Sequence[Container]) -> Survey:
        """Return the pods."""
        said = [container.description.labels for container in containers if container.description]
        pods = {
            (labels[POD_UID], (place := place_of(labels)).pod, place.namespace)
            for labels in said
            if POD_UID in labels
        }
        return Survey(pods=tuple(sorted(pods)))

    def encode(self, container: Container, survey: Survey) -> str:
        """Return the six labels."""
        description = container.description
        place = place_of(description.labels) if description else Place()
        pod, namespace = place.pod, place.namespace
        if container.owner.kind is Kind.POD:
            pods = {uid: (name, space) for uid, name, space in survey.pods}
            pod, namespace = pods.get(container.owner.pod_uid or "", ("", ""))
        labels = {
            "container": place.container,
            "id": container.cgroup.path,
            "image": description.image if description else "",
            "name": container_name(container),
            "namespace": namespace,
            "pod": pod,
        }
        return _encoded({name: value if name == "id" else self._cut(value) for name, value in labels.items()})


SCHEMES: Mapping[str, Callable[[Shown], Scheme]] = {"cadvisor": CadvisorScheme, "kubelet": KubeletScheme}
"""Schemes by their name in the configuration."""


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


class Cutter:
    """Cuts values to a number of bytes, and counts those that it cut."""

    def __init__(self, most_bytes: float) -> None:
        """``most_bytes`` of UTF-8; whole characters only."""
        self._most_bytes = most_bytes
        self.count = 0

    def __call__(self, value: str) -> str:
        """Return at most that much of a value."""
        if len(value) * _MOST_BYTES_OF_A_CHARACTER <= self._most_bytes:
            return value
        kept = value
        # A lone surrogate stands for a byte that is no UTF-8, and is shown by more than one.
        while (excess := len(kept.encode(errors="surrogatepass")) - self._most_bytes) > 0:
            kept = kept[: -math.ceil(excess / _MOST_BYTES_OF_A_CHARACTER)]
        self.count += kept is not value
        return kept


_MOST_BYTES_OF_A_CHARACTER = 4


def _encoded(labels: Mapping[str, str]) -> str:
    return ",".join([f'{name}="{escape(value)}"' for name, value in labels.items()])
