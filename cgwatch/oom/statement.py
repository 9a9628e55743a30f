"""One sentence and the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Statement(Struct, frozen=True):
    """A sentence of an explanation."""

    topic: str
    """``limit``, ``usage``, ``growth``, ...: a program may look for it."""
    text: str
    numbers: Mapping[str, float]
    """By name, with the unit in it; empty where the sentence states no number."""
