"""Pods, and what kubelet writes into their cgroups before a runtime puts containers there (cgroup v2).

The numbers are those of kubelet's pkg/kubelet/cm (helpers_linux.go, qos_container_manager_linux.go) and
kuberuntime, with pods limited to ``POD_PIDS`` (podPidsLimit) and, where asked for, the feature MemoryQoS.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tests.real.dockerd import RealKernelError
from tests.real.leftovers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1 << 20
POD_PIDS = 512
ALLOCATABLE_BYTES = 768 * MEBIBYTE
_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000
_LEAST_SHARES = 2
_THROTTLING_FACTOR = 0.9
_PAGE_BYTES = 4096
Files = dict[str, str]
"""What is written into a cgroup: file and text."""


class App(Struct, frozen=True):
    """One container of a pod: requests, limits, and what it does."""

    name: str
    image: str
    work: str
    cpu_request_millis: int = 0
    cpu_limit_millis: int = 0
    memory_request_bytes: int = 0
    memory_limit_bytes: int = 0
    huge_pages_bytes: int = 0
    cpus: str = ""
    """Where the CPU manager lets it run; empty: anywhere."""
    is_killed_first: bool = False
    """Its first attempt outgrows its limit; the one that is seen is the second."""


class Pod(Struct, frozen=True):
    """A pod as the API has it. A static one has the hash of its manifest for a uid."""

    name: str
    namespace: str
    uid: str
    qos: str
    apps: tuple[App, ...]
    host_network: bool = False
    is_static: bool = False

    @property
    def _level(self) -> tuple[str, ...]:
        return () if self.qos == "guaranteed" else (self.qos,)

    def cgroup(self, *, systemd: bool) -> str:
        """Give the path of the pod's cgroup."""
        if not systemd:
            return "/".join(("/kubepods", *self._level, f"pod{self.uid}"))
        stem = "-".join(("kubepods", *self._level))
        parents = ["kubepods.slice"] if stem == "kubepods" else ["kubepods.slice", f"{stem}.slice"]
        return "/" + "/".join((*parents, f"{stem}-pod{self.uid.replace('-', '_')}.slice"))

    def files(self, *, memory_qos: bool) -> Files:
        """What kubelet writes into the pod's cgroup."""
        files = {"cpu.weight": _weight(sum(app.cpu_request_millis for app in self.apps))}
        files["pids.max"] = str(POD_PIDS)
        if all(app.cpu_limit_millis for app in self.apps):
            files["cpu.max"] = _quota(sum(app.cpu_limit_millis for app in self.apps))
        if all(app.memory_limit_bytes for app in self.apps):
            files["memory.max"] = str(sum(app.memory_limit_bytes for app in self.apps))
        if memory_qos:
            files["memory.min"] = str(sum(app.memory_request_bytes for app in self.apps))
        if has_controller("hugetlb"):
            files["hugetlb.2MB.max"] = str(sum(app.huge_pages_bytes for app in self.apps))
        return files


def has_controller(name: str) -> bool:
    """Tell whether this kernel has a controller."""
    return name in (_ROOT / "cgroup.controllers").read_text().split()


def level_files(pods: Iterable[Pod], *, memory_qos: bool) -> dict[str, Files]:
    """What kubelet writes into ``kubepods`` ("") and the levels below it."""
    apps = [app for pod in pods for app in pod.apps]
    burstable = [app for pod in pods if pod.qos == "burstable" for app in pod.apps]
    levels = {
        "": {"cpu.weight": _weight(1000 * (os.cpu_count() or 1)), "memory.max": str(ALLOCATABLE_BYTES)},
        "burstable": {"cpu.weight": _weight(sum(app.cpu_request_millis for app in burstable))},
        "besteffort": {"cpu.weight": _weight(0)},
    }
    if memory_qos:
        levels[""]["memory.min"] = str(sum(app.memory_request_bytes for app in apps))
        levels["burstable"]["memory.min"] = str(sum(app.memory_request_bytes for app in burstable))
    return levels


def level_cgroup(level: str, *, systemd: bool) -> str:
    """Give the path of ``kubepods`` or of a level below it."""
    if not systemd:
        return f"/kubepods/{level}".rstrip("/")
    return f"/kubepods.slice/kubepods-{level}.slice" if level else "/kubepods.slice"


def resources(app: App, qos: str, *, memory_qos: bool, kill_all: bool) -> dict[str, Any]:
    """Give the limits of a container as the runtime hands them to runc (the OCI's config-linux.md)."""
    unified = {"memory.oom.group": "1"} if kill_all else {}
    if memory_qos and app.memory_request_bytes:
        unified["memory.min"] = str(app.memory_request_bytes)
        if qos != "guaranteed":
            most = app.memory_limit_bytes or ALLOCATABLE_BYTES
            high = app.memory_request_bytes + _THROTTLING_FACTOR * (most - app.memory_request_bytes)
            unified["memory.high"] = str(int(high) // _PAGE_BYTES * _PAGE_BYTES)
    cpu: dict[str, Any] = {"shares": _shares(app.cpu_request_millis), "period": _PERIOD}
    if app.cpu_limit_millis:
        cpu["quota"] = app.cpu_limit_millis * _PERIOD // 1000
    if app.cpus and has_controller("cpuset"):
        cpu["cpus"] = app.cpus
    found: dict[str, Any] = {"cpu": cpu, "unified": unified}
    if app.memory_limit_bytes:
        found["memory"] = {"limit": app.memory_limit_bytes, "swap": app.memory_limit_bytes}
    if has_controller("hugetlb"):
        found["hugepageLimits"] = [{"pageSize": "2MB", "limit": app.huge_pages_bytes}]
    return found


def pause_resources() -> dict[str, Any]:
    """Give the limits of a pod's pause container: none, and the smallest weight."""
    return {"cpu": {"shares": _LEAST_SHARES}}


def make_cgroup(path: str, files: Files, *, by_systemd: bool) -> None:
    """Make a cgroup as kubelet does: with each controller enabled below it, or as a slice of systemd's."""
    place = _ROOT / path.strip("/")
    if by_systemd:  # which enables the controllers that its children account
        _start_slice(place.name, files)
        if not wait_until(place.exists, 10):
            raise RealKernelError(f"systemd does not make {place}")
    else:
        place.mkdir()
        enabled = (place / "cgroup.controllers").read_text().split()
        (place / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in enabled))
    for name, text in files.items():
        (place / name).write_text(text)


def _start_slice(name: str, files: Files) -> None:
    """Ask systemd for a slice, with the properties that kubelet's libcontainer asks for."""
    above = name.removesuffix(".slice").rpartition("-")[0]
    wanted = [f"Wants as 1 {above}.slice"] if above else []
    properties = [
        *wanted,
        *(f"{name}Accounting b true" for name in ("Memory", "CPU", "IO", "Tasks")),
        "DefaultDependencies b false",
    ]
    numbers = {"memory.max": "MemoryMax", "cpu.weight": "CPUWeight", "pids.max": "TasksMax"}
    properties += [f"{numbers[file]} t {text}" for file, text in files.items() if file in numbers]
    if "cpu.max" in files:
        quota, period = (int(word) for word in files["cpu.max"].split())
        properties.append(f"CPUQuotaPerSecUSec t {quota * 1_000_000 // period}")
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    words = " ".join(properties).split()
    arguments = ("ssa(sv)a(sa(sv))", name, "replace", str(len(properties)), *words, "0")
    subprocess.run(["busctl", "--quiet", "call", *manager, "StartTransientUnit", *arguments], check=True)


def _shares(millis: int) -> int:
    return max(_LEAST_SHARES, millis * 1024 // 1000)


def _weight(millis: int) -> str:
    """From shares as runc and kubelet of that time did: 2..262144 is 1..10000."""
    return str(1 + (_shares(millis) - 2) * 9999 // 262142)


def _quota(millis: int) -> str:
    return f"{millis * _PERIOD // 1000} {_PERIOD}"
