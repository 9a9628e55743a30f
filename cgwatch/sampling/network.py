"""Network counters of the containers: one owner for each network namespace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cgwatch.errors import (
    AccessDeniedError,
    CgroupGoneError,
    FileMissingError,
    KernelFileError,
    NotSupportedError,
)
from cgwatch.model import Cgroup, Container, Kind
from cgwatch.proc.namespaces import Candidate, network_namespace, network_owners
from cgwatch.proc.network import InterfaceCounters, counted, parse_net_dev
from cgwatch.proc.reading import parsed, read_bytes

INIT = 1
_KTHREADD = 2

NORMAL = (FileMissingError, CgroupGoneError, NotSupportedError, AccessDeniedError)
"""The process ended, or is a zombie that has left its namespaces: nothing to tell of it any more. Without the
right to trace a process its namespace cannot be told, and counters without an owner would count twice."""


class NetworkReader:
    """Reads each network namespace once a tick. Keeps whose it was, so that no counter jumps."""

    def __init__(self, proc_root: str) -> None:
        self._proc_root = proc_root
        self._owners: Mapping[int, Candidate[Cgroup]] = {}
        self._texts: Mapping[Cgroup, tuple[bytes, tuple[InterfaceCounters, ...]]] = {}

    def read(
        self, processes: Iterable[tuple[Container, int]], faults: list[KernelFileError]
    ) -> dict[Cgroup, tuple[InterfaceCounters, ...]]:
        """Return the counters by cgroup. ``processes``: one process of each container that has any."""
        candidates = []
        root = None
        host_namespace = self._host_namespace(faults)
        for container, pid in processes:
            if container.owner.kind is Kind.ROOT:
                root = container.cgroup
                # The host's counters need no owner to be told: init's are the node's own.
                candidates.append(Candidate(root, INIT, host_namespace or 0, False, root.inode))
            elif host_namespace is not None:
                namespace = self._namespace(pid, faults)
                if namespace is not None:
                    is_container = container.owner.kind is Kind.CONTAINER
                    cgroup = container.cgroup
                    candidates.append(Candidate(cgroup, pid, namespace, is_container, cgroup.inode))
        self._owners = network_owners(
            candidates,
            host_namespace=host_namespace or 0,
            root=root or Cgroup("/", 0),
            previous=self._owners,
        )
        return self._read_owners(faults)

    @property
    def owners(self) -> Iterable[Candidate[Cgroup]]:
        """Whose namespaces were read, and by which process: one for each namespace."""
        return self._owners.values()

    def _host_namespace(self, faults: list[KernelFileError]) -> int | None:
        """Kernel threads live in the first namespace, and may be looked at where init may not."""
        try:
            is_kernel_thread = read_bytes(f"{self._proc_root}/{_KTHREADD}/comm") == b"kthreadd\n"
        except KernelFileError:
            is_kernel_thread = False  # not the node's pid namespace
        return self._namespace(_KTHREADD if is_kernel_thread else INIT, faults)

    def _namespace(self, pid: int, faults: list[KernelFileError]) -> int | None:
        try:
            return network_namespace(self._proc_root, pid)
        except NORMAL:
            return None
        except KernelFileError as fault:
            faults.append(fault)
            return None

    def _read_owners(self, faults: list[KernelFileError]) -> dict[Cgroup, tuple[InterfaceCounters, ...]]:
        texts: dict[Cgroup, tuple[bytes, tuple[InterfaceCounters, ...]]] = {}
        for owner in self._owners.values():
            path = f"{self._proc_root}/{owner.pid}/net/dev"
            before = self._texts.get(owner.key)
            try:
                raw = read_bytes(path)
                if before is not None and before[0] == raw:
                    texts[owner.key] = before
                else:
                    texts[owner.key] = raw, counted(parsed(path, raw, parse_net_dev))
            except NORMAL:
                continue
            except KernelFileError as fault:
                faults.append(fault)
        self._texts = texts
        return {cgroup: counters for cgroup, (_, counters) in texts.items()}
