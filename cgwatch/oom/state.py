"""What the ledger remembers from one observation to the next: small enough to be stored with every kill."""

from __future__ import annotations

from msgspec import Struct

from cgwatch.oom.kill import Holder, OomKill
from cgwatch.oom.observation import ContainerDied, KernelKill, LimitWrite, LogPlace

WINDOW_SECONDS = 30.0
"""How long evidence may come late: after it a kill is settled with what there is."""
SOON_SECONDS = 2.0
"""How far the clocks of two sources may be apart; how long to wait for more where all is told."""
DIES_WITHIN_SECONDS = 5.0
"""How soon after a kill of its main process a container dies of it."""
OPEN_KILLS = 4096
PENDING_LINES = 4096
DEATHS = 1024
GONE_CGROUPS = 4096
LIMIT_WRITES = 256
KEPT_APART = 256
"""Kills found at one cgroup in one read that become records of their own; the rest is one record."""


class Level(Struct, frozen=True):
    """The counter that has counted a kill, together with all those above it. The topmost is the node's."""

    path: str = ""
    """Of the cgroup; empty: the node's own counter."""
    inode: int = 0
    own: bool = False
    """The counter of the cgroup alone, which is the lowest there is."""

    @property
    def rank(self) -> int:
        """Higher means lower in the tree: the node's is -1."""
        return -1 if not self.path else 2 * depth(self.path) + self.own


class OpenKill(Struct, frozen=True):
    """A kill that may still be told more of."""

    kill: OomKill
    level: Level
    reading: int
    """In which it was found."""
    monotonic_seconds: float
    """When it was found."""
    line: KernelKill | None = None


class Tracked(Struct, frozen=True):
    """A cgroup, and how many kills of its counters the ledger has."""

    holder: Holder
    own: int | None
    """``None``: not offered, or not yet read where kills from before the ledger may be in it."""
    within: int | None
    first_seconds: float
    """When it was first seen."""
    oom: int | None = None
    oom_reading: int = -1
    """The reading in which ``oom`` last rose."""
    group_kills: int | None = None
    group_reading: int = -1
    init_pid: int | None = None


class Gone(Struct, frozen=True):
    """A cgroup that is there no more, kept while late evidence may name it."""

    tracked: Tracked
    seconds: float


class PendingLine(Struct, frozen=True):
    """A line of the log whose kill no counter has shown yet."""

    line: KernelKill
    settled: bool = False
    """All cgroups and the node were read after it: its kill is among those that are known."""


class Death(Struct, frozen=True):
    """What the runtime said of the end of a container."""

    died: ContainerDied
    reading: int
    used: bool = False
    """It has named a kill, or confirmed one."""


class Closed(Struct, frozen=True):
    """A kill that is settled and whose container the runtime may still speak of."""

    container_id: str
    after_seconds: float
    until_seconds: float


class State(Struct, frozen=True):
    """The ledger between two observations.

    ``attributed + unattributed`` is what the node's counter has risen by since the ledger began.
    """

    boot_id: str
    began_seconds: float
    reads_log: bool = True
    next_number: int = 1
    attributed: int = 0
    """Kills with a certain holder."""
    unattributed: int = 0
    """Kills of which only the number is known, or a cgroup above; evidence may still come."""
    contradicted: int = 0
    """Counts of cgroups that the node's counter does not bear out; they are in neither number."""
    unmatched_lines: int = 0
    """Lines of the log that belong to no kill that a counter shows."""
    lost_lines: int = 0
    """Records of the log that were overwritten unread, as far as their number is known."""
    log_gaps: int = 0
    last_sequence: int | None = None
    """Of the last kill that the kernel's log told."""
    log_place: LogPlace | None = None
    """Where to go on in the kernel's log; ``None``: not known."""
    has_base: bool = False
    """The first complete reading was had: what the counters said before it is not the ledger's."""
    seconds: float = 0
    """Of the last reading, since the epoch."""
    monotonic_seconds: float = -1
    """Of the last reading."""
    reading: int = 0
    complete_reading: int = -1
    """The last complete one."""
    complete_seconds: float = 0
    down_since_seconds: float | None = None
    """Set from a restart until the first complete reading after it."""
    resumed_seconds: float = 0
    node: int | None = None
    """How many kills of the node's counter the ledger has; ``None``: it was never readable."""
    cgroups: dict[str, Tracked] = {}
    gone: dict[str, Gone] = {}
    open: tuple[OpenKill, ...] = ()
    lines: tuple[PendingLine, ...] = ()
    deaths: tuple[Death, ...] = ()
    closed: tuple[Closed, ...] = ()
    writes: tuple[LimitWrite, ...] = ()


def depth(path: str) -> int:
    """Count the steps from the root: 0 for ``/``."""
    return 0 if path == "/" else path.count("/")


def lineage(path: str) -> list[str]:
    """Return a path and all above it, the path first and ``/`` last."""
    found = [path]
    while path != "/":
        path = path[: path.rfind("/")] or "/"
        found.append(path)
    return found


def is_within(path: str, above: str) -> bool:
    """Tell whether ``path`` is ``above`` or below it."""
    return above in (path, "/") or path.startswith(above + "/")
