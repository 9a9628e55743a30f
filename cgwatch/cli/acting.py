"""Who does it: the running agent, by its socket; or this process, with the same code, lock and database."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cgwatch.cgroup import hierarchy
from cgwatch.change import Actor, ActorKind, Key, Report, Request, Target
from cgwatch.cli.names import described_by_docker
from cgwatch.control import Reset, client
from cgwatch.errors import AgentUnreachableError
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.listing import containers
from cgwatch.limits.resolve import Candidate, candidates
from cgwatch.peer import user_name
from cgwatch.settings import Settings

LOG = logging.getLogger(__name__)


class Hands(Protocol):
    """What carries out requests."""

    def apply(self, request: Request) -> Report:
        """Carry out one; raises ``CgwatchError``."""

    def reset(self, target: Target, keys: Sequence[Key] | None) -> Report:
        """Bring back limits, ``None``: all that were changed; raises ``CgwatchError``."""


class _Agents:
    """The running agent's; it finds out by itself who asks."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir

    def apply(self, request: Request) -> Report:
        return client.apply(self._state_dir, request)

    def reset(self, target: Target, keys: Sequence[Key] | None) -> Report:
        return client.reset(self._state_dir, Reset(target, None if keys is None else tuple(keys)))


class _Own:
    """This process's."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer

    def apply(self, request: Request) -> Report:
        return self._enforcer.apply(request)

    def reset(self, target: Target, keys: Iterable[Key] | None) -> Report:
        return self._enforcer.reset(target, keys, actor())


def actor() -> Actor:
    """Return who runs this command."""
    user_id = os.getuid()
    return Actor(ActorKind.COMMAND, user_name(user_id), user_id)


def candidates_of(settings: Settings) -> tuple[tuple[Candidate, ...], bool]:
    """Return the cgroups that can be named, and whether an agent told.

    Raises ``AgentUnreachableError`` where an agent is there and does not answer: then nobody acts beside it.
    """
    try:
        return client.fetch_candidates(settings.state_dir), True
    except AgentUnreachableError as error:
        if not error.nobody:
            raise
        LOG.debug("%s", error)
    return own_candidates(settings), False


def own_candidates(settings: Settings) -> tuple[Candidate, ...]:
    """Look by ourselves which cgroups there are."""
    found = hierarchy.find(settings.roots.proc, settings.roots.cgroup)
    described = described_by_docker(settings.discovery.docker)
    return candidates(containers(found, settings.roots.proc, described))


@contextmanager
def acting(settings: Settings, *, by_agent: bool) -> Iterator[Hands]:
    """Give the hands of the agent, or our own with the host's lock held.

    Raises ``EnforcerBusyError`` where another process holds the lock, or ``StorageError``.
    """
    if by_agent:
        yield _Agents(settings.state_dir)
        return
    from cgwatch.limits.wiring import alone  # noqa: PLC0415 - not where an agent does it

    with _quiet(), alone(settings) as enforcer:
        yield _Own(enforcer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out of the log what the command says itself; debugging has it."""
    logger = logging.getLogger("cgwatch.limits")
    before = logger.level
    logger.setLevel(logging.DEBUG if logger.isEnabledFor(logging.DEBUG) else logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
