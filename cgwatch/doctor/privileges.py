"""Checks of what this process may look at."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cgwatch.cgroup.hierarchy import parse_mountinfo
from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.doctor.namespaces import KTHREADD, shows_kthreadd
from cgwatch.errors import AccessDeniedError, KernelFileError
from cgwatch.proc.namespaces import network_namespace
from cgwatch.proc.reading import parsed, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey

# Bits of capabilities(7), and what cgwatch needs them for.
_CAPABILITIES = {
    1: ("CAP_DAC_OVERRIDE", "writing limits of cgroups that belong to others"),
    19: ("CAP_SYS_PTRACE", "network counters of other users' processes"),
    34: ("CAP_SYSLOG", "/dev/kmsg where kernel.dmesg_restrict is 1"),
}
_NETWORK = "missing: all metrics of the group network"


def capabilities(host: Host) -> Iterator[Finding]:
    """Effective user and capabilities."""
    effective = parsed(
        f"{host.proc_root}/self/status", read_bytes(f"{host.proc_root}/self/status"), parse_capabilities
    )
    missing = [
        f"{name} ({purpose})" for bit, (name, purpose) in _CAPABILITIES.items() if not effective >> bit & 1
    ]
    who = "root" if host.euid == 0 else f"user {host.euid}"
    if missing:
        yield Finding(
            Level.NOTE,
            "permissions",
            f"{who} without {', '.join(missing)}",
            "the findings below say what could not be read",
            "run as root; in a container: --cap-add SYS_PTRACE --cap-add SYSLOG; in a unit:"
            " AmbientCapabilities=CAP_SYS_PTRACE CAP_SYSLOG",
        )
    else:
        yield ok("permissions", f"{who} with {', '.join(name for name, _ in _CAPABILITIES.values())}")


def parse_capabilities(data: bytes) -> int:
    """Return ``CapEff`` of ``/proc/<pid>/status`` (proc(5)) as bits; ``ValueError`` without it."""
    for line in data.splitlines():
        key, _, value = line.partition(b":")
        if key == b"CapEff":
            return int(value.strip(), 16)
    raise ValueError("no line CapEff")


def network_namespaces(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether the network namespaces of other processes can be told apart."""
    subject = "network counters"
    pids = {
        sample.container.cgroup.path: sample.core.first_pid
        for sample in survey.containers
        if sample.core and sample.core.first_pid
    }
    outcomes = Counter(_may_look(host.proc_root, pid) for pid in pids.values())
    kthreadd = shows_kthreadd(host.proc_root) and _may_look(host.proc_root, KTHREADD)
    if outcomes["denied"] or kthreadd == "denied":
        who = (
            f"{outcomes['denied']} of {counted(len(pids), 'container')}" if pids else "other users' processes"
        )
        yield Finding(
            Level.WARNING,
            subject,
            f"{host.proc_root}/PID/ns/net of {who} may not be read",
            _NETWORK + " for them",
            "run as root with CAP_SYS_PTRACE; in a container: --cap-add SYS_PTRACE, and"
            " --security-opt apparmor=unconfined where AppArmor still refuses",
        )
    elif pids:
        yield ok(subject, f"the namespaces of {counted(len(pids), 'container')} can be told apart")
    else:
        yield ok(subject, "there is no running container to tell by")


def _may_look(proc_root: str, pid: int) -> str:
    try:
        network_namespace(proc_root, pid)
    except AccessDeniedError:
        return "denied"
    except KernelFileError:
        return "gone"
    return "readable"


def hidden_processes(host: Host) -> Iterator[Finding]:
    """Whether /proc hides other users' processes (``hidepid`` of proc(5))."""
    subject = "hidepid"
    path = f"{host.proc_root}/self/mountinfo"
    mounts = parsed(path, read_bytes(path), parse_mountinfo)
    options = [m.options for m in mounts if m.file_system == "proc" and m.mount_point == host.proc_root]
    hiding = [option for option in (options[-1] if options else ()) if option.startswith("hidepid=")]
    if not hiding or hiding[0] in ("hidepid=0", "hidepid=off"):
        yield ok(subject, f"{host.proc_root} hides no processes")
        return
    yield Finding(
        Level.NOTE,
        subject,
        f"{host.proc_root} is mounted with {hiding[0]}",
        "without CAP_SYS_PTRACE: no network counters of other users' processes",
        "run as root with CAP_SYS_PTRACE, or in the group that the mount option gid= names",
    )
