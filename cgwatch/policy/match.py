"""Which containers a policy is for: globs, compiled once. Pure.

What a container has not got matches nothing. Labels are unknown until its runtime has told of it: until then
neither ``labels`` nor ``notLabels`` is true of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate

from cgwatch.policy.rules import Guards, Match
from cgwatch.policy.subject import Subject

Matcher = Callable[[Subject], bool]
Glob = Callable[[str], object]

FIELDS = ("runtime", "kind", "name", "image", "namespace", "pod", "unit")
"""Of ``Match``, by the names that ``Subject`` has, too; ``cgroup`` is its path."""
_NEVER = frozenset({"root", "qos"})
"""The root has no limits, and those of the QoS classes are the kubelet's, every minute anew."""
_CONTAINER = ("container",)


def any_of(globs: Iterable[str]) -> Glob:
    """Return a function that tells whether one of some globs is a whole text."""
    return re.compile("|".join(translate(glob) for glob in globs)).match


def kinds_of(match: Match) -> tuple[str, ...]:
    """Return the kinds of cgroups that a policy is for: containers, where nothing says otherwise."""
    return match.kind or (() if match.unit or match.cgroup else _CONTAINER)


def matcher(match: Match) -> Matcher:
    """Make a function of the criteria."""
    criteria = {name: getattr(match, name) for name in FIELDS if name != "kind"}
    criteria |= {"kind": kinds_of(match), "path": match.cgroup}
    fields = tuple((name, any_of(globs)) for name, globs in criteria.items() if globs)
    labels, not_labels = _by_label(match.labels), _by_label(match.not_labels)

    def matches(subject: Subject) -> bool:
        if subject.kind in _NEVER:
            return False
        for name, glob in fields:
            text = getattr(subject, name)
            if text is None or not glob(text):
                return False
        if not labels and not not_labels:
            return True
        found = subject.labels
        return (
            found is not None
            and all(name in found and glob(found[name]) for name, glob in labels)
            and not any(name in found and glob(found[name]) for name, glob in not_labels)
        )

    return matches


def _by_label(globs: Mapping[str, str]) -> tuple[tuple[str, Glob], ...]:
    return tuple((name, any_of((glob,))) for name, glob in globs.items())


def protector(guards: Guards) -> Matcher:
    """Make a function that tells what no policy touches; a glob without a slash is of any part of the path.

    ``system.slice`` protects all that is in it, ``kubepods*`` every pod.
    """
    if not guards.protect:
        return lambda _: False
    whole = any_of(guards.protect)

    def protects(subject: Subject) -> bool:
        if (subject.unit and whole(subject.unit)) or whole(subject.path):
            return True
        return any(whole(part) for part in subject.path.split("/") if part)

    return protects


def may_overlap(one: Match, other: Match) -> bool:
    """Whether a container may match both, as far as can be told from the texts."""
    fields = [(getattr(one, name), getattr(other, name)) for name in (*FIELDS, "cgroup") if name != "kind"]
    fields.append((kinds_of(one), kinds_of(other)))
    if any(a and b and not any(_may_meet(x, y) for x in a for y in b) for a, b in fields):
        return False
    if any(not _may_meet(glob, other.labels.get(name, "*")) for name, glob in one.labels.items()):
        return False
    return not any(
        glob in {"*", a.labels.get(name)}
        for a, b in ((one, other), (other, one))
        for name, glob in b.not_labels.items()
        if name in a.labels
    )


_WILD = re.compile(r"[*?\[]")


def _may_meet(one: str, other: str) -> bool:
    """Whether some text may match both globs: certain where one has no wildcard."""
    if not _WILD.search(one):
        return bool(any_of((other,))(one))
    if not _WILD.search(other):
        return bool(any_of((one,))(other))
    prefixes = [_WILD.split(glob, maxsplit=1)[0] for glob in (one, other)]
    short, long = sorted(prefixes, key=len)
    return long.startswith(short)
