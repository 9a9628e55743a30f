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
from cgwatch.cgroup.cpuset import CpusetStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.hugetlb import HugetlbStats
from cgwatch.cgroup.io import IoStats
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.cgroup.numa import NumaStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.cgroup.shares import Formula
from cgwatch.proc.descriptors import Descriptors
from cgwatch.proc.diskstats import Disk
from cgwatch.proc.edac import Dimms
from cgwatch.proc.filesystems import Filesystem
from cgwatch.proc.limits import ResourceLimit
from cgwatch.proc.machine import Machine
from cgwatch.proc.meminfo import Meminfo
from cgwatch.proc.network import InterfaceCounters
from cgwatch.proc.schedstat import Schedstat
from cgwatch.proc.sockets import TcpSockets, UdpSockets
from cgwatch.proc.states import TaskStates
from cgwatch.proc.topology import Node


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
    cgroup_path: str | None = None
    """Where its cgroup is when it runs, by the runtime's own rules; ``None``: they are not known."""
    cpu_shares: int | None = None
    """What it was asked to run with, whatever became of it in the cgroup; ``None``: nobody asked."""


class Cgroup(Struct, frozen=True):
    """Identity of a cgroup. The inode tells two cgroups apart that had the same path one after the other.

    No rate and no delta is ever computed across two inodes.
    """

    path: str
    """From the root of the hierarchy, with a leading slash; the root is ``/``."""
    inode: int
    """0: there is no such cgroup (a container that does not run)."""


class Container(Struct, frozen=True):
    """A cgroup that is sampled, and whose it is: in this field's language the root is one, too."""

    cgroup: Cgroup
    owner: Owner
    created_seconds: float | None = None
    """What the cgroup's directory says; a little late after a restart of cgwatch on a node short of memory,
    where the kernel forgets it (kernfs inodes are made anew with the time of their making)."""
    description: Description | None = None
    """Bound late: a container is sampled from its first tick, its name comes when the runtime gives it."""


class Tasks(Struct, frozen=True):
    """What tasks are doing at one moment, and averages of the last 10 seconds or so."""

    states: TaskStates
    running_load: float
    """Tasks on a CPU or waiting for one."""
    uninterruptible_load: float
    """Tasks that wait, mostly for a disk, and that no signal ends."""


class TcpTables(Struct, frozen=True):
    """The TCP sockets of one network namespace; ``None``: the kernel has no such table."""

    v4: TcpSockets | None = None
    v6: TcpSockets | None = None


class UdpTables(Struct, frozen=True):
    """The UDP sockets of one network namespace; ``None``: the kernel has no such table."""

    v4: UdpSockets | None = None
    v6: UdpSockets | None = None


class Detail(Struct, frozen=True):
    """What /proc tells of a container's processes and sockets, where somebody wants it (``sampling.plan``).

    It is read at intervals of its own, so the same object may be in several snapshots. Its processes are
    those of the cgroup and of all below it. A field is ``None`` where nobody wants it, where the agent may
    not look at one of the processes, and where the pids in cgroup files are not those of its /proc.
    """

    tasks: Tasks | None = None
    sched: Schedstat | None = None
    """With the processes that have ended since the agent first saw them; it never goes down."""
    open_files: Descriptors | None = None
    limits: Mapping[str, ResourceLimit] | None = None
    """``max_open_files`` of the init process."""
    tcp: TcpTables | None = None
    """This and the next two: in the network namespace that the container shows, as ``Sample.network``."""
    udp: UdpTables | None = None
    tcp_counters: Mapping[str, int] | None = None
    """By the names of /proc/net/snmp (Tcp) and netstat (TcpExt), in small letters."""


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
    cpuset: CpusetStats | None = None
    hugetlb: HugetlbStats | None = None
    numa: NumaStats | None = None
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
    disks: tuple[Disk, ...] | None = None
    """What the node's block devices did; ``None``: nobody wants it, or the kernel did not say."""
    filesystems: tuple[Filesystem, ...] = ()
    """The node's own, as far as they answer; they are asked once a minute."""
    topology: tuple[Node, ...] = ()
    dimms: Mapping[str, Dimms] = {}
    """The node's memory modules by type; empty where no driver watches them."""
    pressure: PressureStats | None = None
    """Of the whole node."""
    stopped: tuple[Sample, ...] = ()
    """The containers that a runtime knows and that have no cgroup, ordered by path: of these there is nothing
    but ``container``, whose cgroup has no inode and the path that it had or is going to have."""
    oom_kills: Mapping[str, int] | None = None
    """OOM kills by the path of the cgroup that they count for; ``None``: nobody counts."""
    stopped_left_out: int = 0
    """How many more of these there are: the oldest."""
    formulas: Mapping[str, Formula] = {}
    """How ``cpu.shares`` became ``cpu.weight``, by who wrote it (``sampling.formulas``), as far as known."""
