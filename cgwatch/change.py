"""The nouns of acting: what somebody wants of a cgroup's limits, what is done, and what became of it.

Effects are data first. A ``Request`` and a ``Tree`` (what the kernel says now) make a ``Plan`` of ``Change``s
and ``Step``s, purely; ``limits.enforce`` carries it out and gives an ``Outcome`` for each change.

A limit is named by a *key*: the name of its cgroup v2 file, on v1 too (``memory.max``, ``cpu.max``); where a
file holds several numbers, with the kernel's own word and its device or size (``io.max.rbps[8:0]``,
``hugetlb.2MB.max``). What v1 alone has goes by v1's name (``cpu.shares``, ``blkio.weight``,
``memory.soft_limit_in_bytes``). ``cgroup.knobs`` knows them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.model import Owner

Key: TypeAlias = str


class Via(StrEnum):
    """By which way a limit is written: the one that its owner knows of survives longest."""

    AUTO = "auto"
    DOCKER = "docker"
    SYSTEMD = "systemd"
    CGROUPFS = "cgroupfs"


class ActorKind(StrEnum):
    """What kind of writer it is."""

    COMMAND = "command"
    """A person, by the command line."""
    POLICY = "policy"
    EXPIRY = "expiry"
    """The end of an override's time."""
    AGENT = "agent"
    """A restore at the agent's end or start."""


class Actor(Struct, frozen=True):
    """Who wants it, for the audit log."""

    kind: ActorKind
    name: str
    """The user's name; ``policy/rule``; empty."""
    user_id: int | None = None


class Target(Struct, frozen=True):
    """The cgroup, and whose it is. Its identity is (path, inode)."""

    path: str
    inode: int
    owner: Owner
    name: str | None = None
    """Of the container, as its runtime calls it."""


class Request(Struct, frozen=True):
    """What somebody wants of one cgroup."""

    target: Target
    wanted: Mapping[Key, Value]
    actor: Actor
    reason: str = ""
    for_seconds: float | None = None
    """How long it is to hold; ``None``: until it is reset."""
    via: Via = Via.AUTO
    force: bool = False
    """Also where it is going to kill processes."""
    dry_run: bool = False


class Node(Struct, frozen=True):
    """What of the node bounds its limits."""

    page_bytes: int
    memory_total_bytes: int | None = None
    cpus: frozenset[int] = frozenset()
    """Online."""
    memory_nodes: frozenset[int] = frozenset()
    swap_free_bytes: int | None = None


class CgroupState(Struct, frozen=True):
    """One cgroup as the kernel shows it, for planning."""

    path: str
    inode: int
    values: Mapping[Key, Value]
    """Every limit that this cgroup offers."""
    memory_usage_bytes: int | None = None
    reclaimable_bytes: int | None = None
    """Of it: page cache that is neither dirty nor locked, and slab of caches."""
    anon_bytes: int | None = None
    """Of it: what can only go to swap, shared memory as well."""
    swap_usage_bytes: int | None = None
    processes: int | None = None
    """In this very cgroup."""
    used: Mapping[Key, int] = {}
    """How much of its other limits is used: ``pids.max``, ``hugetlb.2MB.max``."""


class Tree(Struct, frozen=True):
    """The target, all above it and all below it, at one moment."""

    node: Node
    versions: Mapping[str, int]
    """1 or 2, by the name of the controller (v2's name: ``io``, also where v1 calls it ``blkio``)."""
    cgroups: Mapping[str, CgroupState]
    """By path."""


class Change(Struct, frozen=True):
    """One limit: from, to, and why."""

    key: Key
    before: Value | None
    """``None``: the kernel did not say."""
    asked: Value
    to: Value
    """As the kernel is going to show it: rounded to pages, clamped to its range."""
    note: str = ""
    """Why ``to`` is not what was asked for; empty where it is."""


class Step(Struct, frozen=True):
    """One write, and how to undo it. Steps are carried out in order, undone in the reverse order."""

    path: str
    """Of the cgroup: the target's own, or of one above or below it."""
    controller: str
    """Whose hierarchy the file is in; empty: the unified one's core (``cgroup.freeze``)."""
    file: str
    text: str
    undo: str | None
    """The text that brings back what was there; ``None``: nothing to undo (``memory.reclaim``)."""
    keys: tuple[Key, ...]
    """Whose values it writes."""
    waits_for: str = ""
    """A condition to wait for before the next step: ``usage`` (of memory, to come below the next limit) or
    ``frozen``; empty: none."""


class Refusal(Struct, frozen=True):
    """A change that is not made, with the numbers and with what to do."""

    key: Key
    message: str


class Plan(Struct, frozen=True):
    """What is going to be done for a request."""

    request: Request
    changes: tuple[Change, ...] = ()
    """Those that are really changes: what is so already is none."""
    unchanged: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    """With any, nothing at all is done."""
    warnings: tuple[str, ...] = ()


class Result(StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    """Written, read back, effective."""
    APPLIED_NOT_EFFECTIVE = "applied_not_effective"
    """Written and read back, but a cgroup above allows less, or usage is still above it."""
    CLAMPED = "clamped"
    """The kernel made another value of it."""
    REVERTED = "reverted"
    """Somebody else wrote over it within the time of the check."""
    REFUSED = "refused"
    """By us or by the kernel; nothing has changed, what was half done was undone."""
    GONE = "gone"
    """The cgroup went away."""
    UNCHANGED = "unchanged"
    """It was so already."""
    DRY_RUN = "dry_run"


VERIFIED = frozenset({Result.APPLIED, Result.UNCHANGED, Result.DRY_RUN})
"""Results that a command ends with exit code 0 for."""


class Outcome(Struct, frozen=True):
    """What became of one change: a row of the audit log."""

    change: Change
    result: Result
    via: Via
    seconds: float
    """When it was begun, since the epoch."""
    duration_seconds: float = 0.0
    written: str | None = None
    """The text, or the API's words; ``None``: nothing was written."""
    read_back: Value | None = None
    effective: Value | None = None
    """What really bounds the cgroup: the least of its own and of all above."""
    effective_path: str | None = None
    """Whose it is."""
    message: str = ""
    """What to do, where it is not simply applied."""


class Report(Struct, frozen=True):
    """All outcomes of one request."""

    request: Request
    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...] = ()
    number: int | None = None
    """In the audit log."""
    expires_seconds: float | None = None
    """Since the epoch."""
    steps: tuple[Step, ...] = ()
    """As planned, for a dry run."""
