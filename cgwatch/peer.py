"""Who is at the other end of a unix socket, as the kernel says it (unix(7), ``SO_PEERCRED``)."""

from __future__ import annotations

import pwd
import socket
import struct

from msgspec import Struct

_SO_PEERGROUPS = 59
"""Not in Python's socket module; since Linux 4.13, the same on all architectures that have Debian."""
_MOST_GROUPS = 256
"""As many as Python's getsockopt has room for; who is in more of them has none here."""
_CREDENTIALS = struct.Struct("iII")
_GROUP = struct.Struct("I")


class Peer(Struct, frozen=True):
    """The process that connected, as it was at that moment."""

    pid: int
    """0 if it is in no pid namespace that we see."""
    user_id: int
    groups: frozenset[int]
    """Its effective group and the supplementary ones."""

    @property
    def user(self) -> str:
        """The user's name; the number where nobody is called so."""
        return user_name(self.user_id)


def peer_of(channel: socket.socket) -> Peer:
    """Return who connected to this unix socket. Raises ``OSError``."""
    pid, user_id, group_id = _CREDENTIALS.unpack(
        channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Peer(pid, user_id, frozenset({group_id, *_supplementary(channel)}))


def _supplementary(channel: socket.socket) -> tuple[int, ...]:
    try:
        found = channel.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUP.size)
    except OSError:  # before 4.13; or too many
        return ()
    return tuple(group for (group,) in _GROUP.iter_unpack(found))


def user_name(user_id: int) -> str:
    """Return what the user is called; the number where nobody is called so."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
