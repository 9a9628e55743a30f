"""What a check says, and what it may look at."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from cgwatch.settings import Settings


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Something is not there, and that is normal for this kernel or this set-up."""
    WARNING = "warning"
    """Something is missing that this node could have."""
    ERROR = "error"
    """Nothing can be sampled."""


class Finding(Struct, frozen=True):
    """One thing that was looked at. Texts are sentences for people, without a full stop."""

    level: Level
    subject: str
    found: str
    consequence: str = ""
    """What will be missing; empty: nothing."""
    advice: str = ""
    """What to do about it; empty: nothing can or need be done."""


class Limit(Struct, frozen=True):
    """A resource limit of getrlimit(2); ``resource.RLIM_INFINITY``: none."""

    soft: int
    hard: int


class Host(Struct, frozen=True):
    """Where the checks look: settings, roots, and what this process was born with."""

    settings: Settings
    euid: int
    open_files: Limit
    """RLIMIT_NOFILE as it was before anything raised it."""
    sys_root: str = "/sys"
    dev_root: str = "/dev"

    @property
    def proc_root(self) -> str:
        """Where /proc is."""
        return self.settings.roots.proc


def ok(subject: str, found: str) -> Finding:
    """Make the finding that all is well."""
    return Finding(Level.OK, subject, found)


def counted(count: int, noun: str) -> str:
    """``1 cgroup``, ``2 cgroups``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
