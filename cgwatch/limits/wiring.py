"""Makes the enforcer of the settings: for the agent, and for a command that acts alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cgwatch.limits.enforce import Enforcer
from cgwatch.settings import Settings


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[Enforcer]:
    """Give the enforcer of a command that acts without an agent, with the host's lock held.

    Raises ``EnforcerBusyError`` while another process enforces limits on this host (its message names the
    process), ``NoCgroupsError``, or ``StorageError``.
    """
    raise NotImplementedError
    yield Enforcer()
