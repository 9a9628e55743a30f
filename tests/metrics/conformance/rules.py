"""What a row of the conformance tables says, and the rules by which a cgroup has a family or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct


class Captured(Struct, frozen=True):
    """One cgroup of a captured tree: its files in all hierarchies, and the network that is its own."""

    path: str
    directories: tuple[Path, ...]
    interfaces: tuple[str, ...]
    """cAdvisor shows them all but lo and the ends of other namespaces' cables."""

    def has(self, name: str) -> bool:
        """Whether the kernel gave this file."""
        return any((directory / name).exists() for directory in self.directories)

    def text(self, name: str) -> str:
        """The file's text, empty without the file."""
        found = [directory / name for directory in self.directories if (directory / name).exists()]
        return found[0].read_text() if found else ""


Rule: TypeAlias = Callable[[Captured], bool]


class Row(Struct, frozen=True):
    """One family."""

    name: str
    type: str
    labels: tuple[str, ...]
    """Beyond the container's own."""
    v1: Rule
    v2: Rule
    departs: str = ""
    """What cAdvisor does otherwise."""
    own: bool = False
    """cgwatch's own: cAdvisor has no such family."""


class NodeRow(Struct, frozen=True):
    """A family that is there once a page, or once for each thing of the node (``labels`` tell them apart)."""

    name: str
    type: str
    labels: tuple[str, ...] = ()
    once: bool = True
    """Exactly one series on the page of every captured tree."""
    own: bool = False


def each(_cgroup: Captured) -> bool:
    """Every cgroup has it."""
    return True


def none(_cgroup: Captured) -> bool:
    """No cgroup has it: the kernel does not say."""
    return False


def file(name: str) -> Rule:
    """The cgroups that have this kernel file."""
    return lambda cgroup: cgroup.has(name)


def root_or(name: str) -> Rule:
    """The root, for which the machine is asked, and the cgroups that have this kernel file."""
    return lambda cgroup: cgroup.path == "/" or cgroup.has(name)


def key(name: str, word: str) -> Rule:
    """The cgroups whose kernel file has this key."""
    return lambda cgroup: re.search(rf"^{word} ", cgroup.text(name), re.MULTILINE) is not None


def not_zero(name: str, word: str) -> Rule:
    """The cgroups whose kernel file has a number other than 0 after this word."""
    return lambda cgroup: re.search(rf"^{word}[1-9]", cgroup.text(name), re.MULTILINE) is not None


def quota(cgroup: Captured) -> bool:
    """The cgroups with a CPU quota of their own."""
    of_v1, of_v2 = cgroup.text("cpu.cfs_quota_us").strip(), cgroup.text("cpu.max")
    return of_v1 not in {"", "-1"} or (of_v2 != "" and not of_v2.startswith("max"))


def device(name: str) -> Rule:
    """The cgroups whose kernel file has a line for a device."""
    return lambda cgroup: re.search(r"^\d+:\d+ \S", cgroup.text(name), re.MULTILINE) is not None


def network(cgroup: Captured) -> bool:
    """The cgroups with interfaces of their own; the host's are the root's."""
    return bool(cgroup.interfaces)


COUNTER, GAUGE = "counter", "gauge"


ZERO_V1 = "0 on v1"
ZERO_V2 = "0 on v2"
ZERO_ROOT = "0 for the root of v2"
