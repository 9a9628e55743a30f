"""What is told, whatever it is and whoever is told. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

OOM_KILL = "oom_kill"
TEST = "test"


class Held(Struct, frozen=True):
    """Messages of the same container that were held back before this one."""

    count: int
    since_seconds: float
    """When the first of them was, since the epoch."""


class Message(Struct, frozen=True):
    """One message. It is kept in the database, so a new field has to have a default."""

    kind: str
    """``oom_kill``, ``test``; others may come."""
    key: str
    """The same at each attempt, another one for each message: a receiver may drop what it has had."""
    node: str
    title: str
    text: str
    seconds: float
    """When it happened, since the epoch."""
    container: str = ""
    """Its name; of what is no container, the path of the cgroup; empty where that is not known."""
    labels: Mapping[str, str] = {}
    """What identifies the container, as in the metrics: ``runtime``, ``pod``, ``name``, ``cause``, ..."""
    number: int | None = None
    """The kill's."""
    kills: int = 1
    scope: str = ""
    summary: str = ""
    facts: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    held: Held | None = None


def storable(text: str) -> str:
    """Spell out what no encoder takes: the names of processes and cgroups may hold any byte."""
    return text.encode("utf-8", "backslashreplace").decode()
