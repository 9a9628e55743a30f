"""Makes the enforcer of the settings: for the agent, and for a command that acts alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from cgwatch.cgroup import hierarchy
from cgwatch.change import Plan, Request, Tree, Via
from cgwatch.errors import EnforcerBusyError
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.ground import RealGround
from cgwatch.limits.guards import Guards
from cgwatch.limits.hand import Hand
from cgwatch.limits.lock import HostLock
from cgwatch.limits.parts import Observer, Owner, Rules
from cgwatch.limits.plan import plan
from cgwatch.limits.record import Records
from cgwatch.limits.terms import Terms
from cgwatch.limits.transaction import Pace
from cgwatch.limits.writers.docker import DockerWriter
from cgwatch.limits.writers.systemd import SystemdWriter
from cgwatch.oom.observation import LimitWrite
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage

_LOCK = "limits.lock"
_SYSTEMD = "/run/systemd/system"
"""There where systemd is process 1 (sd_booted(3))."""


class Office(Struct, frozen=True):
    """All that writes limits, for one thread; and the record, for any."""

    enforcer: Enforcer
    terms: Terms
    records: Records
    lock: HostLock
    boot_id: str


class Nobody:
    """An ``Observer`` for a command, which has no metrics."""

    def limit_written(self, knob: str, via: str, result: str, seconds: float, /) -> None:
        """Nothing."""

    def limit_conflicted(self, knob: str, /) -> None:
        """Nothing."""

    def limit_restored(self, knob: str, /) -> None:
        """Nothing."""

    def limit_drifted(self, knob: str, /) -> None:
        """Nothing."""


def open_office(
    settings: Settings,
    storage: Storage,
    *,
    observer: Observer | None = None,
    told: Callable[[LimitWrite], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
    planned: Callable[[Request, Tree, bool], Plan] | None = None,
) -> Office:
    """Make what writes limits. Raises ``NoCgroupsError`` or a ``KernelFileError``."""
    limits, watched = settings.limits, observer or Nobody()
    lock = HostLock(limits.lock, os.path.join(settings.state_dir, _LOCK))
    ground = RealGround(
        hierarchy.find(settings.roots.proc, settings.roots.cgroup),
        planned or planner(settings),
        proc_root=settings.roots.proc,
        sys_root=settings.roots.sys,
        hand=Hand(limits.deadline_seconds, shared=lambda: lock.descriptors),
    )
    records = Records(storage)
    pace = Pace(clock, time.monotonic, time.sleep, limits.verify_after_seconds, limits.deadline_seconds)
    rules = Rules(limits.protect, limits.on_exit, limits.follow_restarts, settings.read_only)
    owners = _owners(settings)
    enforcer = Enforcer(
        ground=ground,
        records=records,
        owners=owners,
        lock=lock,
        pace=pace,
        rules=rules,
        observer=watched,
        told=told,
    )
    terms = Terms(
        enforcer, ground=ground, records=records, owners=owners, pace=pace, rules=rules, observer=watched
    )
    return Office(enforcer, terms, records, lock, ground.boot_id)


def _owners(settings: Settings) -> dict[Via, Owner]:
    owners: dict[Via, Owner] = {}
    docker = settings.discovery.docker
    if docker.enabled:
        owners[Via.DOCKER] = DockerWriter(docker.socket, timeout_seconds=settings.limits.deadline_seconds)
    if os.path.isdir(_SYSTEMD):
        owners[Via.SYSTEMD] = SystemdWriter(timeout_seconds=settings.limits.deadline_seconds)
    return owners


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[Enforcer]:
    """Give the enforcer of a command that acts without an agent, with the host's lock held.

    What an agent or a command before it left half done is settled first. Raises ``EnforcerBusyError`` while
    another process enforces limits on this host (its message names the process), ``NoCgroupsError``, or
    ``StorageError``.
    """
    with Storage.open(os.path.join(settings.state_dir, DATABASE)) as storage:
        office = open_office(settings, storage)
        lock = office.lock
        try:
            is_ours = settings.read_only or lock.acquire()
        except OSError as error:
            raise EnforcerBusyError(
                f"{lock.path} cannot be locked ({error.strerror}): name another file by limits.lock"
            ) from error
        if not is_ours:
            raise EnforcerBusyError(
                f"process {lock.holder() or 'unknown'} writes the limits of this host"
                f" ({lock.path} is locked): ask that agent (--state-dir names its directory), or end it"
            )
        try:
            if not settings.read_only:
                office.terms.resume()
            yield office.enforcer
        finally:
            lock.release()


def planner(settings: Settings) -> Callable[[Request, Tree, bool], Plan]:
    """Return what plans requests within the guards of the settings."""
    limits = settings.limits
    guards = Guards(memory_floor_bytes=limits.floor_bytes, memory_reserve_bytes=limits.host_reserve_bytes)
    return lambda request, tree, restores: plan(request, tree, guards=guards, restores=restores)
