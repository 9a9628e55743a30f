"""Which cgroups are on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

from cgwatch.model import Container

Matcher = Callable[[Container], bool]


class Selection:
    """Takes cgroups that any criterion of ``include`` (without any: all) and none of ``exclude`` is true of.

    A criterion is a glob over one thing: ``cgroup=/system.slice/*``, ``kind=container``, ``runtime=docker``,
    ``name=web-*``, ``image=*/nginx:*``, ``label.team=core*``. What a container has not got matches nothing.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = tuple(map(matcher, include))
        self._exclude = tuple(map(matcher, exclude))

    def takes(self, container: Container) -> bool:
        """Whether a cgroup's series are shown."""
        if self._include and not any(matches(container) for matches in self._include):
            return False
        return not any(matches(container) for matches in self._exclude)


def matcher(criterion: str) -> Matcher:
    """Make a function of a criterion, whose form the configuration has checked."""
    thing, _, glob = criterion.partition("=")
    matches = re.compile(translate(glob)).match
    key = thing.removeprefix("label.")

    def value(container: Container) -> str | None:
        described = container.description
        match thing:
            case "cgroup":
                return container.cgroup.path
            case "kind":
                return container.owner.kind
            case "runtime":
                return container.owner.runtime
            case "name":
                return described.name if described else None
            case "image":
                return described.image if described else None
            case _:
                return described.labels.get(key) if described else None

    def takes(container: Container) -> bool:
        text = value(container)
        return text is not None and matches(text) is not None

    return takes
