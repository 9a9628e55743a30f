"""The containers that have no cgroup: created, exited, about to be started again."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Sample

MOST = 1000
"""A node that never removes what ended would show all of it, for ever."""


class Stopped:
    """Remembers where the cgroup of each container was, so that its series stay the same without it."""

    def __init__(self, most: int = MOST) -> None:
        """``most``: how many are shown; the newest of them."""
        self._most = most
        self._paths: dict[str, str] = {}
        self._samples: dict[str, Sample] = {}
        self.left_out = 0

    def update(
        self, descriptions: Mapping[str, Description], running: Iterable[Container]
    ) -> tuple[Sample, ...]:
        """Return those of the described containers that are not running, ordered by path.

        The same container is the same object from tick to tick, until the runtime says something else of it.
        """
        paths = {
            container.owner.container_id: container.cgroup.path
            for container in running
            if container.owner.container_id
        }
        stopped = {key: said for key, said in descriptions.items() if key not in paths}
        self._paths = paths | {key: self._paths[key] for key in stopped if key in self._paths}
        shown = heapq.nlargest(self._most, stopped.values(), key=_age) if len(stopped) > self._most else None
        self.left_out = 0 if shown is None else len(stopped) - len(shown)
        self._samples = {said.container_id: self._sample(said) for said in shown or stopped.values()}
        return tuple(sorted(self._samples.values(), key=lambda sample: sample.container.cgroup.path))

    def _sample(self, said: Description) -> Sample:
        path = self._paths.get(said.container_id) or said.cgroup_path
        path = path or f"/{said.runtime}/{said.container_id}"
        known = self._samples.get(said.container_id)
        if known and known.container.description is said and known.container.cgroup.path == path:
            return known
        return Sample(Container(Cgroup(path, 0), recognise(path), description=said))


def _age(said: Description) -> tuple[float, str]:
    return said.finished_seconds or said.created_seconds or 0.0, said.container_id
