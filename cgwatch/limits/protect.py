"""Which cgroups nobody may limit through cgwatch, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from cgwatch.model import Kind, Owner


def protection(path: str, owner: Owner, *, own_paths: Iterable[str], globs: Iterable[str] = ()) -> str | None:
    """Say why the cgroup ``path`` is not to be limited; ``None``: it may be.

    ``own_paths``: the cgroups that the agent runs in, one for each hierarchy. ``globs``: ``limits.protect``.
    """
    if path == "/":
        return "it is the root, which holds the whole machine"
    if path.rstrip("/").split("/")[1] == "init.scope":
        return "process 1 runs in it"
    if owner.kind is Kind.QOS:
        return "it holds the pods of the node, and the kubelet sets it again and again"
    for own in own_paths:
        if own == path:
            return "cgwatch itself runs in it"
        if own.startswith(path.rstrip("/") + "/"):
            return "cgwatch itself runs in a cgroup below it"
    for glob in globs:
        if fnmatchcase(path, glob) or fnmatchcase(path.strip("/"), glob):
            return f"the setting limits.protect names it by {glob!r}"
    return None
