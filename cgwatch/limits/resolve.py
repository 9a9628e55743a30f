"""Which cgroup a name means, as people type it: a name, an id, a pod, a path, or a glob. Pure.

The first of these that anything answers to decides, so that a name never loses to the beginning of an id; and
what does not lie inside a container is meant before what does.

1. the path of a cgroup, if there is a slash in it
2. the name of a container, or its whole id
3. the name of a systemd unit
4. a pod: its uid, ``NAME`` or ``NAMESPACE/NAME``
5. how the id of a container begins, by three digits at least
6. the last directory of a cgroup that was made by hand
7. a glob over paths, if there is a slash in it (``*`` stays within one directory)
8. a glob over all those names

Whoever acts on the answer has to look whether there is one, and only one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from msgspec import Struct, structs

from cgwatch.change import Target
from cgwatch.model import Container, Kind, Owner, Runtime

_LEAST_ID = 3
_SHORT_ID = 12
_GLOB = re.compile(r"[*?[]")
_POD_NAME = "io.kubernetes.pod.name"
_POD_NAMESPACE = "io.kubernetes.pod.namespace"
_SIMILAR = 0.5


class Candidate(Struct, frozen=True):
    """A cgroup that a name may mean."""

    path: str
    inode: int
    """0: a container that does not run, and so has no cgroup."""
    owner: Owner
    name: str | None = None
    """Of the container, as its runtime calls it."""
    image: str | None = None
    pod: str | None = None
    """Of a container: the name of its pod; of the pod itself, too, where one of its containers tells."""
    namespace: str | None = None
    """The pod's."""

    @property
    def shown(self) -> str:
        """What people call it: the name, else the beginning of the id, else the unit, the pod or the path."""
        if self.name:
            return self.name
        owner = self.owner
        if owner.kind is Kind.CONTAINER and owner.container_id:
            return owner.container_id if owner.runtime is Runtime.LXC else owner.container_id[:_SHORT_ID]
        return owner.unit or (self.pod if owner.kind is Kind.POD and self.pod else self.path)

    @property
    def target(self) -> Target:
        """As whoever acts on it takes it."""
        return Target(self.path, self.inode, self.owner, self.name)


def candidates(containers: Iterable[Container]) -> tuple[Candidate, ...]:
    """Return what can be named, ordered by path; a pod has the name that its containers know of."""
    found = [_candidate(container) for container in containers]
    pods = {each.owner.pod_uid: each for each in found if each.pod}
    return tuple(sorted((_as_pod(each, pods) for each in found), key=lambda each: each.path))


def _candidate(container: Container) -> Candidate:
    said, cgroup = container.description, container.cgroup
    labels = said.labels if said else {}
    return Candidate(
        cgroup.path,
        cgroup.inode,
        container.owner,
        (said.name if said else None) or None,
        (said.image if said else None) or None,
        labels.get(_POD_NAME) or None,
        labels.get(_POD_NAMESPACE) or None,
    )


def _as_pod(each: Candidate, pods: Mapping[str | None, Candidate]) -> Candidate:
    named = pods.get(each.owner.pod_uid) if each.owner.kind is Kind.POD else None
    return structs.replace(each, pod=named.pod, namespace=named.namespace) if named else each


def is_glob(text: str) -> bool:
    """Whether ``text`` can mean several on purpose."""
    return _GLOB.search(text) is not None


def resolve(text: str, among: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return what ``text`` means, ordered by path: nothing, one, or all between which it does not decide."""
    for matches in _ways(text):
        found = tuple(each for each in among if matches(each))
        # Whoever is root in a container makes cgroups of any name in there.
        outside = tuple(each for each in found if each.owner.parent_container_id is None)
        if found:
            return outside or found
    return ()


def _ways(text: str) -> Iterator[Callable[[Candidate], bool]]:
    path = "/" + text.strip("/")
    if "/" in text:
        yield lambda each: each.path == path
    if text and not text.startswith("/"):
        yield lambda each: text in (each.name, each.owner.container_id)
        yield lambda each: each.owner.unit == text
        yield lambda each: each.owner.kind is Kind.POD and text in _pod_names(each)
        yield lambda each: _id_begins(each, text)
        yield lambda each: each.owner.kind is Kind.PLAIN and each.path.rpartition("/")[2] == text
    if not is_glob(text):
        return
    if "/" in text:
        yield lambda each: _matches_path(each, path)
    if not text.startswith("/"):
        yield lambda each: any(fnmatchcase(name, text) for name in names_of(each))


def names_of(each: Candidate) -> Iterator[str]:
    """Give the names that a cgroup answers to, the one that people use most first; not its path."""
    owner = each.owner
    if each.name:
        yield each.name
    if owner.kind is Kind.CONTAINER and owner.container_id:
        yield owner.container_id
    if owner.unit and owner.kind is Kind.UNIT:
        yield owner.unit
    if owner.kind is Kind.POD:
        yield from _pod_names(each)
    if owner.kind is Kind.PLAIN:
        yield each.path.rpartition("/")[2]


def _pod_names(each: Candidate) -> tuple[str, ...]:
    names = (each.owner.pod_uid, each.pod, f"{each.namespace}/{each.pod}" if each.namespace else None)
    return tuple(name for name in names if name)


def _id_begins(each: Candidate, text: str) -> bool:
    owner = each.owner
    if owner.runtime is Runtime.LXC or len(text) < _LEAST_ID:  # whose ids are names
        return False
    return owner.container_id is not None and owner.container_id.startswith(text)


def _matches_path(each: Candidate, glob: str) -> bool:
    parts, globs = each.path.split("/"), glob.split("/")
    return len(parts) == len(globs) and all(map(fnmatchcase, parts, globs))


def similar(text: str, among: Sequence[Candidate], most: int = 5) -> tuple[Candidate, ...]:
    """Return what may have been meant by a name that means nothing."""
    by_name: dict[str, Candidate] = {}
    for each in among:
        if each.owner.parent_container_id is None:
            for name in names_of(each):
                by_name.setdefault(name, each)
    close = get_close_matches(text, by_name, n=most, cutoff=_SIMILAR)
    inside = [name for name in by_name if text and text in name]
    return tuple({by_name[name].path: by_name[name] for name in (*close, *inside)}.values())[:most]
