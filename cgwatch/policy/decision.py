"""What policies want: the output of ``decide``. Pure."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.change import Key
from cgwatch.policy.rules import Mode
from cgwatch.policy.subject import Subject


class Kind(StrEnum):
    """What is wanted."""

    WRITE = "write"
    """A limit is to be another."""
    RESTORE = "restore"
    """A limit is to be what it was before cgwatch wrote it."""
    RECLAIM = "reclaim"
    """``memory.reclaim``, once."""
    NOTIFY = "notify"
    """Tell somebody."""


class Decision(Struct, frozen=True):
    """One thing that is wanted of one container, with the reason and the numbers behind it."""

    subject: Subject
    kind: Kind
    mode: Mode
    """Only what is ``ENFORCE`` is carried out."""
    by: str
    """``policy/rule``; the policy alone for its ``limits``; empty where the rule is gone."""
    reason: str
    key: Key = ""
    before: Value | None = None
    to: Value | None = None
    """Bytes, of ``RECLAIM``."""
    relief: bool = False
    """It gives the container more."""
    priority: int = 0


class Note(Struct, frozen=True):
    """What is not done, and why: a metric is missing, a guard holds it back, somebody else wrote."""

    subject: Subject
    by: str
    message: str
