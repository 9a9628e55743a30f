"""Who may use the control socket, and how the socket's file says so."""

from __future__ import annotations

import grp
import logging
import os
import stat

from msgspec import Struct

from cgwatch.peer import Peer

LOG = logging.getLogger(__name__)

_ROOT = 0


class Access(Struct, frozen=True):
    """Root and the agent's own user always may; a group, where there is one."""

    user_id: int
    """The agent's own."""
    group_id: int | None = None

    def allows(self, peer: Peer) -> bool:
        """Whether a peer may use the socket."""
        return peer.user_id in {_ROOT, self.user_id} or self.group_id in peer.groups


def access_of(group: str | None, directory: int) -> Access:
    """Return who may use a socket in ``directory``, a descriptor, and let the group pass through there.

    A group that there is not, or that this user may not give things to, is a warning: then it is as if none
    was configured.
    """
    own = os.geteuid()
    if not group:
        return Access(own)
    try:
        group_id = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        _warn(group, "there is no such group; create it, or correct control.group")
        return Access(own)
    try:
        _let_pass(directory, group_id)
    except OSError as error:
        _warn(group, f"the state directory cannot be opened to it: {error.strerror}")
        return Access(own)
    return Access(own, group_id)


def _let_pass(directory: int, group_id: int) -> None:
    """Let a group through the state directory to the socket, and no further: it cannot list what is there."""
    found = os.fstat(directory)
    if found.st_mode & stat.S_IXOTH or (found.st_gid == group_id and found.st_mode & stat.S_IXGRP):
        return
    os.fchown(directory, -1, group_id)
    os.fchmod(directory, stat.S_IMODE(found.st_mode) & ~stat.S_IRWXG | stat.S_IXGRP)


def _warn(group: str, problem: str) -> None:
    LOG.warning("the group may not use the control socket", extra={"group": group, "problem": problem})
