"""The groups of metrics that can be switched: part of the settings, and a table of its own."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field, structs


class Groups(Struct, frozen=True, forbid_unknown_fields=True):
    """Which groups of metrics are exposed: those that cAdvisor exposes, and cgwatch's own."""

    cpu: Annotated[bool, Meta(description="Time used and throttled.")] = True
    percpu: Annotated[bool, Meta(description="Time used on each CPU, where the kernel says (v1).")] = True
    memory: Annotated[
        bool, Meta(description="Usage, working set, cache, swap, kernel memory, faults, events.")
    ] = True
    disk: Annotated[bool, Meta(description="Space and inodes of the node's file systems.")] = True
    disk_io: Annotated[bool, Meta(description="Bytes, operations and times of each block device.")] = field(
        name="diskIO", default=True
    )
    network: Annotated[bool, Meta(description="Counters of the interfaces inside a container.")] = True
    pressure: Annotated[bool, Meta(description="Time stalled for want of CPU, memory and I/O.")] = True
    pids: Annotated[bool, Meta(description="Tasks, their peak, and forks that the limit refused.")] = True
    cgroup: Annotated[
        bool, Meta(description="Nested cgroups, and removed ones that the kernel still holds (leaks).")
    ] = True
    state: Annotated[
        bool, Meta(description="What a runtime says of its containers: state, restarts, exit code, health.")
    ] = True
    oom_event: Annotated[bool, Meta(description="OOM kills.")] = True
    spec: Annotated[bool, Meta(description="Limits, shares and reservations, as configured.")] = True
    machine: Annotated[bool, Meta(description="Cores, memory and identity of the node.")] = True
    process: Annotated[
        bool, Meta(description="Processes, threads, open files, sockets and limits of processes.")
    ] = False
    cpu_load: Annotated[bool, Meta(description="Load averages and states of tasks.")] = field(
        name="cpuLoad", default=False
    )
    sched: Annotated[bool, Meta(description="Time that processes ran and waited for a CPU.")] = False
    hugetlb: Annotated[bool, Meta(description="Huge pages.")] = False
    cpuset: Annotated[bool, Meta(description="CPUs and memory nodes that may be used.")] = False
    memory_numa: Annotated[bool, Meta(description="Memory on each node of the machine.")] = False
    tcp: Annotated[bool, Meta(description="TCP sockets by state.")] = False
    udp: Annotated[bool, Meta(description="UDP sockets and their queues.")] = False
    advtcp: Annotated[bool, Meta(description="TCP's own counters.")] = False
    cpu_topology: Annotated[
        bool, Meta(description="Caches, threads, memory nodes and distances of the machine.")
    ] = False
    pressure_average: Annotated[
        bool, Meta(description="Averages of the pressure, which rate() tells as well.")
    ] = False

    def enabled(self) -> frozenset[str]:
        """Names of the groups that are on, as in the file (``diskIO``)."""
        return frozenset(field.encode_name for field in structs.fields(self) if getattr(self, field.name))
