"""The agent's control socket: what the command line asks of a running agent, over HTTP on a unix socket.

The socket is ``control.sock`` in the state directory. Root, the agent's own user and the members of
``control.group`` may use it; the kernel says who connected. The directory is locked (flock(2)) for as long as
an agent serves from it, so a socket in an unlocked directory is what a killed agent left behind.

======================  =============================================================================
``GET /ps``             ``usage.Listing``: what every cgroup uses
``GET /cgroups``        ``limits.resolve.Candidate``s: what can be named
``GET /limits?path=``   ``limits.view.View``: all limits of one cgroup
``POST /limits``        a ``change.Request`` is carried out; its ``change.Report``. Who asks is filled in
``POST /limits/reset``  a ``Reset`` is carried out; its ``change.Report``
``GET /changes``        the audit log, the newest first; ``since``, ``container`` and ``limit`` choose
======================  =============================================================================

All of it is JSON. Whatever is not done has a status from 400 on, and says why in words.
"""

from __future__ import annotations

import os

from msgspec import Struct

from cgwatch.change import Key, Target

SOCKET_NAME = "control.sock"
WRITE_SECONDS = 120.0
"""One write may take ten seconds, where the kernel reclaims memory first; a request may have several."""


class Reset(Struct, frozen=True):
    """Limits of one cgroup are to be what they were before the first change."""

    target: Target
    keys: tuple[Key, ...] | None = None
    """``None``: all that were changed."""


def socket_path(state_dir: str) -> str:
    """Where the agent with this state directory listens."""
    return os.path.join(state_dir, SOCKET_NAME)
