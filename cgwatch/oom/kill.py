"""One OOM kill of the kernel, as the ledger has it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from cgwatch.discovery.kubernetes import Place
from cgwatch.model import Owner


class Cause(StrEnum):
    """Whose limit it was."""

    OWN_LIMIT = "own_limit"
    """Of the container, or of a cgroup inside it."""
    ANCESTOR_LIMIT = "ancestor_limit"
    """Of a cgroup above the container: its pod, a slice."""
    GLOBAL = "global"
    """None: the node (or a cpuset or memory policy of it) ran out of memory."""
    LIMIT_WRITE = "limit_write"
    """A limit that cgwatch itself was writing at that moment."""
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What of the container was killed."""

    MAIN = "main"
    """Its init process, and with it the container."""
    CHILD = "child"
    """Another process: the container may well go on."""
    GROUP = "group"
    """All of it, by ``memory.oom.group``."""
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Who told of a kill."""

    COUNTER = "counter"
    """The counter of the victim's own cgroup."""
    ANCESTOR = "ancestor"
    """The counter of a cgroup above, which counts what is below it."""
    NODE = "node"
    """``/proc/vmstat``."""
    LOG = "log"
    """The kernel's log."""
    RUNTIME = "runtime"
    """The container runtime."""


class Victim(Struct, frozen=True):
    """The process, as the kernel's log describes it at its death. Memory is what was mapped, in bytes."""

    pid: int
    """In the host's pid namespace."""
    command: str
    """At most 15 bytes; a process can choose it at will."""
    total_vm_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    pagetables_bytes: int | None = None
    """Since 5.4."""
    uid: int | None = None
    """Since 5.5."""
    oom_score_adj: int | None = None
    """-1000..1000; since 5.5."""


class Holder(Struct, frozen=True):
    """Whom a kill counts for: the innermost container around the victim, or its cgroup if there is none."""

    path: str | None
    """``None``: only the runtime knew of the container."""
    inode: int | None
    """``None``: the cgroup was gone before anyone looked."""
    owner: Owner
    name: str | None = None
    image: str | None = None
    in_kubernetes: Place | None = None
    """Namespace, pod and container, where the runtime notes them."""


class OomKill(Struct, frozen=True):
    """One kill. A later version of the same ``number`` replaces it, until it is ``settled``."""

    number: int
    """Counts up over boots and restarts; names the kill for good."""
    boot_id: str
    found_seconds: float
    """When a source first told of it, since the epoch."""
    after_seconds: float
    """When the source had last been read without it."""
    killed_seconds: float | None = None
    """By the kernel's log, since the epoch."""
    count: int = 1
    """More than 1 only where so many were found in one read that they are not kept apart."""
    path: str | None = None
    """Of the victim's cgroup if ``exact``, else the nearest one above it that is known; ``None``: unknown."""
    exact: bool = False
    inode: int | None = None
    holder: Holder | None = None
    attributed: bool = False
    """``holder`` is certain, and never changes again."""
    settled: bool = False
    """No version comes after this one, so it may be counted under its cause and scope."""
    cause: Cause = Cause.UNKNOWN
    limit_path: str | None = None
    """The cgroup whose limit was hit."""
    scope: Scope = Scope.UNKNOWN
    victim: Victim | None = None
    log_sequence: int | None = None
    """Of the line ``Killed process`` in the kernel's log."""
    exit_code: int | None = None
    """Of the container, if it died of this."""
    sources: tuple[Source, ...] = ()
    while_down: bool = False
    """It happened while cgwatch did not run, and was found when it began again."""
