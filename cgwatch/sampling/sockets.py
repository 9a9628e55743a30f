"""What /proc tells of the sockets in each network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from cgwatch.errors import KernelFileError
from cgwatch.model import Cgroup, TcpTables, UdpTables
from cgwatch.proc.namespaces import Candidate
from cgwatch.proc.netstat import read_tcp_counters
from cgwatch.proc.sockets import read_tcp_sockets, read_udp_sockets
from cgwatch.sampling.network import NORMAL
from cgwatch.sampling.rounds import Rounds

T = TypeVar("T")
Fields = dict[str, Any]
"""Fields of a ``model.Detail``."""

PARTS = frozenset({"tcp", "udp", "tcp_counters"})
"""What is read here, by its field in ``model.Detail``."""


class SocketReader:
    """Looks at each network namespace once in an interval, for the cgroup that shows its counters."""

    def __init__(
        self,
        *,
        proc_root: str,
        parts: frozenset[str],
        rounds: Rounds[Cgroup],
        failed: Callable[[KernelFileError], None],
    ) -> None:
        """``parts``: some of ``PARTS``."""
        self._proc_root = proc_root
        self._parts = parts
        self._rounds = rounds
        self._failed = failed
        self._owners: AbstractSet[Cgroup] = frozenset()

    def read(self, owners: Iterable[Candidate[Cgroup]]) -> dict[Cgroup, Fields]:
        """Return what is new, by cgroup; all is ``None`` for one that shows no namespace any more."""
        pids = {owner.key: owner.pid for owner in owners}
        found: dict[Cgroup, Fields] = {cgroup: dict.fromkeys(PARTS) for cgroup in self._owners - pids.keys()}
        self._owners = pids.keys()
        for cgroup in self._rounds.take(pids):
            found[cgroup] = self._look(pids[cgroup])
        return found

    def _look(self, pid: int) -> Fields:
        return {
            "tcp": self._tcp(pid) if "tcp" in self._parts else None,
            "udp": self._udp(pid) if "udp" in self._parts else None,
            "tcp_counters": self._attempt(read_tcp_counters, pid) if "tcp_counters" in self._parts else None,
        }

    def _tcp(self, pid: int) -> TcpTables | None:
        tables = [self._attempt(read_tcp_sockets, pid, name) for name in ("tcp", "tcp6")]
        return TcpTables(*tables) if any(tables) else None

    def _udp(self, pid: int) -> UdpTables | None:
        tables = [self._attempt(read_udp_sockets, pid, name) for name in ("udp", "udp6")]
        return UdpTables(*tables) if any(tables) else None

    def _attempt(self, read: Callable[..., T], pid: int, *name: str) -> T | None:
        try:
            return read(self._proc_root, pid, *name)
        except NORMAL:
            return None
        except KernelFileError as fault:
            self._failed(fault)
            return None
