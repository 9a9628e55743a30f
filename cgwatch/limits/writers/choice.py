"""By which way a limit is written: the one that its owner knows of, so that it lasts and is told truthfully.

What a runtime's or systemd's interface sets survives a restart or a ``daemon-reload``, and ``docker inspect``
or ``systemctl show`` say so. What is written to the kernel's file behind their backs is undone when they set
the cgroup anew. ``ROWS`` has the ways of each owner, the best first. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from cgwatch.cgroup.knob import How, Knob
from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import Key, Refusal, Target, Via
from cgwatch.model import Kind, Owner, Runtime

_DOCKER_HOWS = frozenset({How.SAME, How.PLUS_MEMORY, How.BLKIO_WEIGHT})
_SYSTEMD_V1 = frozenset(
    "memory.max cpu.max cpu.max.period cpu.shares blkio.weight pids.max"
    " io.max.rbps[DEVICE] io.max.wbps[DEVICE]".split()
)
"""What systemd manages on cgroup v1; it never touches cpuset, hugetlb and freezer there."""


class Row(Struct, frozen=True):
    """The ways of one kind of owner, and why a limit does not last on the last of them."""

    ways: tuple[Via, ...]
    lost: str = ""
    """When what is written to the kernel alone is undone; empty: never."""


class Choice(Struct, frozen=True):
    """Which way each limit goes."""

    ways: Mapping[Key, Via]
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


_RESTART = "the container is started again"
_RELOAD = "systemd sets up its units again (daemon-reload)"


def row_of(owner: Owner) -> Row:
    """Return the row of an owner.

    Within a container, and below a user's own systemd, the machine's daemons know nothing.
    """
    is_foreign = owner.parent_container_id or owner.user_id
    match owner.kind, owner.runtime:
        case ((Kind.CONTAINER | Kind.POD | Kind.UNIT), _) if is_foreign:
            row = Row((Via.CGROUPFS,), "whoever made it sets it again")
        case Kind.CONTAINER, Runtime.DOCKER if owner.unit:
            row = Row((Via.DOCKER, Via.SYSTEMD, Via.CGROUPFS), f"{_RESTART}, or {_RELOAD}")
        case Kind.CONTAINER, Runtime.DOCKER:
            row = Row((Via.DOCKER, Via.CGROUPFS), _RESTART)
        case ((Kind.CONTAINER | Kind.POD), _) if owner.unit:
            row = Row((Via.SYSTEMD, Via.CGROUPFS), f"{_RESTART}, or {_RELOAD}")
        case ((Kind.CONTAINER | Kind.POD), _):
            row = Row((Via.CGROUPFS,), _RESTART)
        case Kind.UNIT, _:
            row = Row((Via.SYSTEMD, Via.CGROUPFS), f"the unit is started again, or {_RELOAD}")
        case _:
            row = Row((Via.CGROUPFS,))
    return row


def choose(
    wanted: Via,
    target: Target,
    keys: Iterable[Key],
    *,
    versions: Mapping[str, int],
    unable: Mapping[Via, str] | None = None,
    impossible: Mapping[tuple[Via, Key], str] | None = None,
) -> Choice:
    """Choose a way for each limit.

    ``versions``: as ``Tree.versions``. ``unable``: ways that cannot be gone at all now, and why not.
    ``impossible``: what a way was found not to be able to do with one limit. A way that was asked for by name
    is taken, or refused with the reason; ``auto`` takes the next one, and warns of what that means.
    """
    row = row_of(target.owner)
    unable, impossible = unable or {}, impossible or {}
    ways: dict[Key, Via] = {}
    refusals, warnings = [], []
    for key in keys:
        knob = knob_of(key)
        reasons = []
        for way in row.ways if wanted is Via.AUTO else (wanted,):
            reason = (
                unable.get(way)
                or impossible.get((way, key))
                or ("" if way in row.ways else _not_its_owner(way, target))
                or _lacks(way, knob, versions.get(knob.controller, 2))
            )
            if reason:
                reasons.append(reason)
                continue
            ways[key] = way
            break
        else:
            refusals.append(Refusal(key, f"{'; '.join(reasons)}. Use --via auto, which finds another way"))
            continue
        if ways[key] is Via.CGROUPFS and row.lost and not _is_nobodys(knob, versions, row):
            warnings.append(
                f"{key} is written to the kernel alone{_because(reasons)}: it is lost when {row.lost}"
            )
        elif reasons:
            warnings.append(f"{key} goes by {ways[key]}{_because(reasons)}")
    if ways and target.owner.pod_uid:
        warnings.append(
            "the kubelet may set a pod's limits again at any time, and its API does not show these"
        )
    return Choice(ways, tuple(refusals), tuple(warnings))


def _because(reasons: list[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


def _not_its_owner(way: Via, target: Target) -> str:
    owner = {Via.DOCKER: "a container of the Docker on this host", Via.SYSTEMD: "a unit of systemd"}
    return f"{target.path} is not {owner.get(way, 'known there')}"


def _lacks(way: Via, knob: Knob, version: int) -> str:
    """Say what an interface has not got; empty: it has it."""
    if way is Via.DOCKER and (knob.docker is None or knob.docker.how not in _DOCKER_HOWS):
        return f"Docker's API cannot set {knob.key}"
    if way is Via.SYSTEMD and (knob.systemd is None or (version == 1 and knob.family not in _SYSTEMD_V1)):
        return f"systemd has no property for {knob.key}{' on cgroup v1' if version == 1 else ''}"
    return ""


def _is_nobodys(knob: Knob, versions: Mapping[str, int], row: Row) -> bool:
    """Whether nobody sets this file of a unit again: what systemd does not know of, it leaves alone."""
    is_unit = row.ways[0] is Via.SYSTEMD
    return is_unit and bool(_lacks(Via.SYSTEMD, knob, versions.get(knob.controller, 2)))
