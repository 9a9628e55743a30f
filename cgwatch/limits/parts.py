"""What the enforcer is made of: its collaborators, its rules, and what it tells of."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import Actor, Key, Plan, Report, Request, Result, Target, Tree
from cgwatch.errors import UnknownLimitError
from cgwatch.limits.transaction import Kernel, OwnerWriter

LOG = logging.getLogger(__name__)


class Held(Struct, frozen=True):
    """One override in force, as the agent's metrics and the command line show it."""

    target: Target
    key: Key
    desired: Value
    applied: Value | None
    """As last read; ``None``: it could not be."""
    effective: Value | None
    baseline: Value | None
    """What it goes back to."""
    expires_seconds: float | None
    """Since the epoch; ``None``: it holds until it is reset."""
    actor: Actor
    reason: str


class Owner(OwnerWriter, Protocol):
    """A writer that also says beforehand what it cannot do."""

    def impossible(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> Mapping[Key, str]:
        """Return the limits that it cannot set, with the reasons. Raises a ``CgwatchError``."""


class Ground(Kernel, Protocol):
    """The kernel as the enforcer needs it: ``limits.ground``."""

    @property
    def boot_id(self) -> str:
        """Of the machine's present run."""

    @property
    def own_paths(self) -> tuple[str, ...]:
        """The cgroups that this process runs in."""

    def identify(self, path: str) -> int:
        """Return the inode of a cgroup. Raises ``FileMissingError``."""

    def plan(self, request: Request, tree: Tree, *, restores: bool) -> Plan:
        """Say what has to be done; ``restores``: to bring back what was there before."""

    def baseline(self, target: Target) -> Mapping[Key, Value]:
        """Return what is written on the cgroup itself."""

    def keep_baseline(self, target: Target, values: Mapping[Key, Value]) -> None:
        """Write it there, beside what is there already, if that is possible."""

    def forget_baseline(self, target: Target, keys: Iterable[Key]) -> None:
        """Take these away from what is there."""

    def end(self) -> None:
        """Let go of the hand that writes, after each request."""


class Observer(Protocol):
    """Learns what is done."""

    def limit_written(self, knob: str, via: str, result: str, seconds: float, /) -> None:
        """One change is over."""

    def limit_conflicted(self, knob: str, /) -> None:
        """A limit was not brought back, as somebody else has written it."""

    def limit_restored(self, knob: str, /) -> None:
        """A limit was brought back."""

    def limit_drifted(self, knob: str, /) -> None:
        """Somebody else has written over a limit."""


class Rules(Struct, frozen=True):
    """What the settings say of writing."""

    protect: tuple[str, ...] = ()
    on_exit: str = "keep"
    follow_restarts: bool = True
    read_only: bool = False


def log(report: Report) -> None:
    """Write what became of a request into the log, a line for each limit."""
    request = report.request
    for outcome in report.outcomes:
        is_well = outcome.result in {Result.APPLIED, Result.UNCHANGED}
        LOG.log(
            logging.INFO if is_well else logging.WARNING,
            "limit",
            extra={
                "container": request.target.name or request.target.path,
                "limit": outcome.change.key,
                "to": outcome.change.to,
                "result": str(outcome.result),
                "by": f"{request.actor.kind} {request.actor.name}".strip(),
                "problem": outcome.message,
            },
        )


def family(key: Key) -> str:
    """Return what metrics call a limit: the same for all devices, and for whatever is none."""
    try:
        return knob_of(key).family
    except UnknownLimitError:
        return "unknown"
