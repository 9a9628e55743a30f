"""What a row of ``differences.py`` says, which rows hold in a round, and which explain nothing any more."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from tests.compare.verdict import Finding, What
from tests.metrics.conformance import CONTAINER_ROWS, NODE_ROWS
from tests.real.kernel_says import is_v1

_OWN = {row.name for row in CONTAINER_ROWS if row.own} | {row.name for row in NODE_ROWS if row.own}
_NEAR = 0.01


class Round(StrEnum):
    """How both are configured."""

    DEFAULTS = "the groups that are on by default"
    ALL = "all groups"
    STRICT = "all groups, and metrics.strict_cadvisor"


EVERYTHING = (Round.ALL, Round.STRICT)


def anywhere() -> bool:
    """On every machine."""
    return True


def on_v1() -> bool:
    """Where the memory controller is one of cgroup v1."""
    return is_v1()


def on_v2() -> bool:
    """Where it is one of cgroup v2."""
    return not is_v1()


def init_is_closed() -> bool:
    """Where not even root may look at the open files of init."""
    try:
        for descriptor in Path("/proc/1/fd").iterdir():
            descriptor.readlink()
    except PermissionError:
        return True
    return False


class Known(Struct, frozen=True):
    """A difference that is meant, and why."""

    families: str
    """A glob."""
    what: What
    why: str
    whose: tuple[str, ...] = ("*",)
    """Globs over the names of the containers (``busy``) and the paths of other cgroups; ``/`` is the root."""
    detail: str = "*"
    """A glob: which series it is, and its values."""
    only_zero: bool = False
    """Whether cAdvisor shows nothing but 0."""
    times: float = math.nan
    """What cAdvisor's value times this is ours."""
    is_own: bool = False
    """Whether it is of families that cAdvisor does not have at all, as the conformance tables know."""
    restored: bool = False
    """Whether ``metrics.strict_cadvisor`` has to bring cAdvisor's value back."""
    rounds: tuple[Round, ...] = tuple(Round)
    where: Callable[[], bool] = anywhere
    """On which machines it can be seen."""
    quiet: str = ""
    """Why it may not be seen even there; without a reason it must be."""

    def holds(self, current: Round) -> bool:
        """Tell whether this is a reason in this round, on this machine."""
        return current in self.rounds and self.where() and not (self.restored and current is Round.STRICT)

    def explains(self, finding: Finding) -> bool:
        """Tell whether a finding is this difference."""
        return (
            self.what is finding.what
            and fnmatchcase(finding.family, self.families)
            and any(fnmatchcase(finding.whose, one) for one in self.whose)
            and fnmatchcase(finding.detail, self.detail)
            and (not self.only_zero or finding.theirs == (0, 0))
            and (math.isnan(self.times) or self._is_multiple(finding))
            and (not self.is_own or finding.family in _OWN)
        )

    def _is_multiple(self, finding: Finding) -> bool:
        low, high = (value * self.times for value in finding.theirs)
        return finding.ours is not None and low * (1 - _NEAR) <= finding.ours <= high * (1 + _NEAR)


class Reasons(Struct, frozen=True):
    """The rows that hold in a round."""

    rows: tuple[Known, ...]
    is_complete: bool
    """Whether every group is on, so that each row has something to explain."""

    def of(self, finding: Finding) -> str | None:
        """Give why a difference is meant; None if it is not."""
        row = self._row(finding)
        return None if row is None else row.why

    def stale(self, findings: Iterable[Finding], families: Collection[str]) -> list[Known]:
        """Give the rows that explain nothing; ``families`` are those that either of the two has shown."""
        used = [self._row(finding) for finding in findings]
        return [
            row
            for row in self.rows
            if not row.quiet
            and not any(row is one for one in used)
            and (self.is_complete or any(fnmatchcase(family, row.families) for family in families))
        ]

    def _row(self, finding: Finding) -> Known | None:
        return next((row for row in self.rows if row.explains(finding)), None)


def reasons(table: Iterable[Known], current: Round) -> Reasons:
    """Give the rows that hold in a round, on this machine."""
    rows = tuple(row for row in table if row.holds(current))
    return Reasons(rows, is_complete=current is not Round.DEFAULTS)
