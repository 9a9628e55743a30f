"""The nouns of cgwatch: what is sampled, whose it is, and one moment of a whole node.

Everything here is frozen. Units stand in the field's name; ``None`` means that the kernel (or the
runtime) did not say; ``math.inf`` means "no limit"; ratios are 0..1; times are seconds since the epoch
unless the name says ``monotonic``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from cgwatch.cgroup.core import CoreStats
from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.io import IoStats
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.proc.machine import Machine
from cgwatch.proc.meminfo import Meminfo
from cgwatch.proc.network import InterfaceCounters


class Kind(StrEnum):
    """What a cgroup is for."""

    ROOT = "root"
    CONTAINER = "container"
    POD = "pod"
    """A Kubernetes pod: the parent of its containers."""
    QOS = "qos"
    """A Kubernetes quality-of-service level, or ``kubepods`` itself."""
    UNIT = "unit"
    """A systemd service, scope or slice."""
    PLAIN = "plain"
    """Any other cgroup: made by hand, by a batch system, inside a container."""


class Runtime(StrEnum):
    """Who made a cgroup, as far as its path tells."""

    DOCKER = "docker"
    CONTAINERD = "containerd"
    CRIO = "crio"
    PODMAN = "podman"
    LXC = "lxc"
    KUBERNETES = "kubernetes"
    SYSTEMD = "systemd"
    NONE = "none"


class Owner(Struct, frozen=True):
    """Whose cgroup a path is: all that follows from the path alone."""

    kind: Kind
    runtime: Runtime
    container_id: str | None = None
    """The runtime's full id: 64 hexadecimal digits, or LXC's name."""
    pod_uid: str | None = None
    """With dashes, as in the Kubernetes API."""
    qos_class: str | None = None
    """``guaranteed``, ``burstable`` or ``besteffort``."""
    unit: str | None = None
    """The systemd unit's name, unescaped only as far as systemd prints it."""
    user_id: int | None = None
    """The user whose systemd instance holds the cgroup (rootless containers)."""
    parent_container_id: str | None = None
    """The container that this cgroup is nested in (Docker in Docker, systemd in a container)."""


class Description(Struct, frozen=True):
    """What a runtime's API said of one container."""

    runtime: Runtime
    container_id: str
    name: str
    image: str
    labels: Mapping[str, str]
    state: str
    """The runtime's own word: ``created``, ``running``, ``paused``, ``exited``, ..."""
    created_seconds: float | None = None
    started_seconds: float | None = None
    finished_seconds: float | None = None
    exit_code: int | None = None
    """Of the last run; ``None`` while it runs for the first time."""
    oom_killed: bool = False
    """The runtime's view; it stays true after a kill of a mere child, so it is not a count."""
    health: str | None = None
    """``starting``, ``healthy`` or ``unhealthy``; ``None`` without a health check."""
    restart_count: int | None = None
    pid: int | None = None
    """The init process, in the host's pid namespace; ``None`` when it does not run."""
    network_mode: str | None = None
    """The runtime's word: ``host``, ``none``, ``bridge``, ``container:<id>``, ..."""


class Cgroup(Struct, frozen=True):
    """Identity of a cgroup. The inode tells two cgroups apart that had the same path one after the other.

    No rate and no delta is ever computed across two inodes.
    """

    path: str
    """From the root of the hierarchy, with a leading slash; the root is ``/``."""
    inode: int


class Container(Struct, frozen=True):
    """A cgroup that is sampled, and whose it is: in this field's language the root is one, too."""

    cgroup: Cgroup
    owner: Owner
    created_seconds: float | None = None
    """What the cgroup's directory says; a little late after a restart of cgwatch on a node short of memory,
    where the kernel forgets it (kernfs inodes are made anew with the time of their making)."""
    description: Description | None = None
    """Bound late: a container is sampled from its first tick, its name comes when the runtime gives it."""


class Detail(Struct, frozen=True):
    """What /proc tells of a container's processes and sockets, where somebody wants it (``sampling.plan``).

    It is read at intervals of its own, so the same object may be in several snapshots.
    """


class Sample(Struct, frozen=True):
    """One container at one moment. A controller that the kernel does not account here is ``None``."""

    container: Container
    processes: int | None = None
    """Processes in this cgroup and all below it."""
    network: tuple[InterfaceCounters, ...] | None = None
    """``None``: it has no network namespace of its own, or shares one that another container shows."""
    detail: Detail | None = None
    memory: MemoryStats | None = None
    cpu: CpuStats | None = None
    io: IoStats | None = None
    pids: PidsStats | None = None
    pressure: PressureStats | None = None
    core: CoreStats | None = None


class Snapshot(Struct, frozen=True):
    """One moment of a whole node. Immutable: readers on other threads need no lock."""

    sequence: int
    """0 for the first tick of this process; a missed tick leaves a gap."""
    time_seconds: float
    monotonic_seconds: float
    duration_seconds: float
    """How long the reading took: the samples lie that far apart at most."""
    samples: tuple[Sample, ...]
    """Ordered by path, so the root comes first and every cgroup before what is nested in it."""
    layout: Layout
    machine: Machine | None = None
    memory: Meminfo | None = None
    """The node's own memory."""
    devices: Mapping[tuple[int, int], str] = {}
    """Paths of the block devices in the samples, such as ``/dev/sda``."""
