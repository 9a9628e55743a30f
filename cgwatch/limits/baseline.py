"""What a cgroup's limits were before the first override, written on the cgroup itself.

Extended attributes of a cgroup's directory work on v1 and v2, die with the cgroup, and survive an agent and
its database. ``trusted.*`` needs CAP_SYS_ADMIN, so a container cannot forge them. The database has the same;
this is for when it was lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from cgwatch.cgroup.knobs import Value
from cgwatch.change import Key

ATTRIBUTE = "trusted.cgwatch.baseline"


def read_baseline(directory: str) -> dict[Key, Value]:
    """Return what is written on a cgroup; empty where there is nothing, or nothing that can be read."""
    try:
        return msgspec.msgpack.decode(os.getxattr(directory, ATTRIBUTE), type=dict[str, Value])
    except (OSError, msgspec.MsgspecError):
        return {}


def write_baseline(directory: str, values: Mapping[Key, Value]) -> bool:
    """Write it on a cgroup, nothing if it is empty; tell whether that was possible."""
    try:
        if values:
            os.setxattr(directory, ATTRIBUTE, msgspec.msgpack.encode(dict(values)))
        elif ATTRIBUTE in os.listxattr(directory):
            os.removexattr(directory, ATTRIBUTE)
    except OSError:
        return False
    return True
