"""How the machine is built, from sysfs: NUMA nodes with their memory, cores with their threads and caches.

``/sys/devices/system/node`` (Documentation/ABI/stable/sysfs-devices-node; not with CONFIG_NUMA=n) and
``/sys/devices/system/cpu/cpu*/{topology,cache}`` (Documentation/ABI/stable/sysfs-devices-system-cpu and
testing/sysfs-devices-system-cpu). Only CPUs that are online have a topology.

Some 20 small files for each core: read it once and then every few minutes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from cgwatch.errors import FileMissingError, KernelFileError, from_os_error
from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

T = TypeVar("T")
Failed = Callable[[KernelFileError], None]

_KIBIBYTE = 1024
_MOST_IDS = 1 << 16
"""More CPUs than Linux can be built for."""
_PRIVATE_LEVEL = 2
_MEM_TOTAL = re.compile(rb"^Node \d+ MemTotal: +(\d{1,20}) kB$", re.MULTILINE)
_HUGEPAGES = re.compile(r"hugepages-(\d{1,15})kB")
_CACHE = re.compile(r"index\d+")


class Cache(Struct, frozen=True):
    """One cache."""

    level: int
    kind: str
    """``Data``, ``Instruction`` or ``Unified``."""
    size_bytes: int
    cpus: tuple[int, ...]
    """The logical CPUs that use it."""


class Core(Struct, frozen=True):
    """One physical core."""

    core_id: int
    """The hardware's number; it repeats from package to package."""
    package_id: int | None
    """The socket."""
    threads: tuple[int, ...]
    """Its logical CPUs: siblings."""
    caches: tuple[Cache, ...]
    """Those of this core, and those that it shares with a part of its node."""


class Node(Struct, frozen=True):
    """One NUMA node; where the kernel has none, one package with its CPUs alone."""

    node_id: int
    memory_bytes: int | None
    hugepages: Mapping[int, int]
    """Size of a page in bytes -> pages that are set aside."""
    distances: Mapping[int, int]
    """Node -> distance as the firmware tells it (10: itself)."""
    cores: tuple[Core, ...]
    caches: tuple[Cache, ...]
    """Those that all its cores share."""


def read_topology(sys_root: str = "/sys", *, failed: Failed) -> tuple[Node, ...]:
    """Return the nodes by number; never raises for a file.

    What this kernel or machine does not offer (caches on many virtual machines) is ``None`` or empty;
    ``failed`` is called with the error of each file that is there and could not be read or understood.
    """
    nodes = f"{sys_root}/devices/system/node"
    node_ids = _read(f"{nodes}/online", parse_ids, failed)
    if node_ids is None:
        cpus = _read(f"{sys_root}/devices/system/cpu/online", parse_ids, failed) or ()
        return _packages(_cores(sys_root, cpus, failed))
    return tuple(_node(sys_root, node_id, node_ids, failed) for node_id in node_ids)


def _node(sys_root: str, node_id: int, node_ids: tuple[int, ...], failed: Failed) -> Node:
    path = f"{sys_root}/devices/system/node/node{node_id}"
    cpus = _read(f"{path}/cpulist", parse_ids, failed) or ()
    # The columns are the nodes that are online, whose numbers may have gaps.
    distances = _read(f"{path}/distance", parse_distances, failed) or ()
    hugepages = {}
    for name in _names(f"{path}/hugepages", failed):
        match = _HUGEPAGES.fullmatch(name)
        count = _read(f"{path}/hugepages/{name}/nr_hugepages", parse_number, failed) if match else None
        if match and count is not None:
            hugepages[int(match[1]) * _KIBIBYTE] = count
    return _with_shared_caches(
        Node(
            node_id,
            memory_bytes=_read(f"{path}/meminfo", parse_node_meminfo, failed),
            hugepages=hugepages,
            distances=dict(zip(node_ids, distances, strict=False)),
            cores=_cores(sys_root, cpus, failed),
            caches=(),
        )
    )


def _packages(cores: Iterable[Core]) -> tuple[Node, ...]:
    packages: dict[int, list[Core]] = {}
    for core in cores:
        packages.setdefault(core.package_id or 0, []).append(core)
    return tuple(
        _with_shared_caches(Node(package_id, None, {}, {}, tuple(packages[package_id]), ()))
        for package_id in sorted(packages)
    )


def _with_shared_caches(node: Node) -> Node:
    """Move the caches that all cores of the node share from the cores to the node.

    Those of level 1 and 2 stay with a core that has them alone, even where it is the node's only one.
    """
    cpus = {cpu for core in node.cores for cpu in core.threads}

    def is_of_node(cache: Cache, core: Core) -> bool:
        is_private = cache.level <= _PRIVATE_LEVEL and set(cache.cpus) <= set(core.threads)
        return cpus <= set(cache.cpus) and not is_private

    caches = {cache: None for core in node.cores for cache in core.caches if is_of_node(cache, core)}
    cores = (
        Core(
            core.core_id,
            core.package_id,
            core.threads,
            tuple(cache for cache in core.caches if cache not in caches),
        )
        for core in node.cores
    )
    return Node(node.node_id, node.memory_bytes, node.hugepages, node.distances, tuple(cores), tuple(caches))


def _cores(sys_root: str, cpus: tuple[int, ...], failed: Failed) -> tuple[Core, ...]:
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in cpus:
        path = f"{sys_root}/devices/system/cpu/cpu{cpu}"
        siblings = _read(f"{path}/topology/thread_siblings_list", parse_ids, failed)
        core_id = _read(f"{path}/topology/core_id", parse_number, failed)
        if siblings is None or core_id is None or siblings in cores:
            continue
        cores[siblings] = Core(
            core_id,
            _read(f"{path}/topology/physical_package_id", parse_number, failed),
            siblings,
            tuple(
                cache
                for name in _names(f"{path}/cache", failed)
                if _CACHE.fullmatch(name) and (cache := _cache(f"{path}/cache/{name}", failed))
            ),
        )
    return tuple(cores.values())


def _cache(path: str, failed: Failed) -> Cache | None:
    level = _read(f"{path}/level", parse_number, failed)
    kind = _read(f"{path}/type", parse_word, failed)
    size_bytes = _read(f"{path}/size", parse_cache_size, failed)
    cpus = _read(f"{path}/shared_cpu_list", parse_ids, failed)
    # Device trees of small boards often tell that there is a cache, and not how large it is.
    if level is None or kind is None or size_bytes is None or cpus is None:
        return None
    return Cache(level, kind, size_bytes, cpus)


def parse_ids(data: bytes) -> tuple[int, ...]:
    """Return the numbers of a list such as ``0-3,8``; ``ValueError`` says what is wrong."""
    ids: list[int] = []
    for part in data.strip().split(b",") if data.strip() else ():
        first, dash, last = part.partition(b"-")
        start = number(first)
        end = number(last) if dash else start
        if not start <= end < _MOST_IDS:
            raise ValueError(f"not a list of numbers: {shown(data)}")
        ids.extend(range(start, end + 1))
    if len(set(ids)) != len(ids):
        raise ValueError(f"a number twice: {shown(data)}")
    return tuple(sorted(ids))


def parse_distances(data: bytes) -> tuple[int, ...]:
    """Return the columns of a node's ``distance``; ``ValueError`` says what is wrong."""
    return tuple(number(token) for token in data.split())


def parse_node_meminfo(data: bytes) -> int:
    """Return the bytes of memory of a node; ``ValueError`` without ``MemTotal``."""
    match = _MEM_TOTAL.search(data)
    if match is None:
        raise ValueError(f"no line MemTotal: {shown(data)}")
    return int(match[1]) * _KIBIBYTE


def parse_cache_size(data: bytes) -> int:
    """Return the bytes of a cache, which are printed as ``32K``; ``ValueError`` says what is wrong."""
    size, unit, rest = data.strip().partition(b"K")
    if not unit or rest:
        raise ValueError(f"not a size in K: {shown(data)}")
    return number(size) * _KIBIBYTE


def parse_number(data: bytes) -> int:
    """Return a file's one number; some firmware says -1 for "unknown"."""
    token = data.strip()
    return -number(token[1:]) if token.startswith(b"-") else number(token)


def parse_word(data: bytes) -> str:
    """Return a file's one word; ``ValueError`` when there is none."""
    word = text(data.strip())
    if not word:
        raise ValueError("empty")
    return word


def _read(path: str, parse: Callable[[bytes], T], failed: Failed) -> T | None:
    try:
        return parsed(path, read_bytes(path), parse)
    except FileMissingError:
        return None
    except KernelFileError as error:
        failed(error)
        return None


def _names(path: str, failed: Failed) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        fault = from_os_error(path, error)
        if not isinstance(fault, FileMissingError):
            failed(fault)
        return []
