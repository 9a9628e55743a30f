"""Which cgroups nobody may limit through cgwatch, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from cgwatch.model import Kind, Owner


def protection(path: str, owner: Owner, *, own_paths: Iterable[str], globs: Iterable[str] = ()) -> str | None:
    """Say why the cgroup ``path`` is not to be limited; ``None``: it may be.

    ``own_paths``: the cgroups that the agent runs in, one for each hierarchy. ``globs``: ``limits.protect``.
    """
    return next(_reasons(path, owner, own_paths, globs), None)


def _reasons(path: str, owner: Owner, own_paths: Iterable[str], globs: Iterable[str]) -> Iterator[str]:
    if path == "/":
        yield "it is the root, which holds the whole machine"
        return
    if path.split("/")[1] == "init.scope":
        yield "process 1 runs in it"
    if owner.kind is Kind.QOS:
        yield "it holds the pods of the node, and the kubelet sets it again and again"
    for own in own_paths:
        if own == path:
            yield "cgwatch itself runs in it"
        elif own.startswith(f"{path}/"):
            yield "cgwatch itself runs in a cgroup below it"
    for glob in globs:
        if fnmatchcase(path, glob) or fnmatchcase(path.strip("/"), glob):
            yield f"the setting limits.protect names it by {glob!r}"
