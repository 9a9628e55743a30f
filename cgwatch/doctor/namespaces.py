"""Check of the pid namespace, and how any namespace is told to be the node's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgwatch.doctor.finding import Finding, Level, ok
from cgwatch.errors import KernelFileError
from cgwatch.proc.namespaces import parse_namespace
from cgwatch.proc.reading import parsed, read_bytes, read_link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host

KTHREADD = 2

# The numbers of the first namespaces, the same on every kernel since 3.8: PROC_*_INIT_INO of
# include/linux/proc_ns.h.
_INITIAL = {"cgroup": 0xEFFFFFFB, "pid": 0xEFFFFFFC}


def is_initial(proc_root: str, kind: str) -> bool | None:
    """Tell whether this process is in the node's first namespace of ``kind``; ``None``: not to be told."""
    path = f"{proc_root}/self/ns/{kind}"
    try:
        return parsed(path, read_link(path), lambda link: parse_namespace(link, kind)) == _INITIAL[kind]
    except KernelFileError:
        return None


def shows_kthreadd(proc_root: str) -> bool:
    """Tell whether a proc file system is the node's: the second process is the father of kernel threads."""
    try:
        return read_bytes(f"{proc_root}/{KTHREADD}/comm") == b"kthreadd\n"
    except KernelFileError:
        return False


def pid_namespace(host: Host) -> Iterator[Finding]:
    """Whether processes have the node's numbers here, and whether /proc is the node's."""
    subject = "pid namespace"
    is_node_proc = shows_kthreadd(host.proc_root)
    own = is_initial(host.proc_root, "pid")
    if own or (own is None and is_node_proc):
        yield ok(subject, "the node's own")
        return
    yield Finding(
        Level.WARNING,
        subject,
        f"a container's, though {host.proc_root} is the node's"
        if is_node_proc
        else f"a container's, and {host.proc_root} shows only the processes in it",
        "network counters only of containers that a runtime's API names"
        if is_node_proc
        else "missing: network counters of the node and of its containers",
        "start the container with --pid=host (Kubernetes: hostPID: true)",
    )
