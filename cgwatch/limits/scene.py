"""What a plan is made of: the request, and the tree around its target. Pure."""

from __future__ import annotations

import math

from msgspec import Struct

from cgwatch.cgroup.knob import V2, Knob, Place, Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.change import CgroupState, Key, Request, Tree
from cgwatch.oom.state import depth, is_within, lineage


class Scene(Struct, frozen=True):
    """A request and what the kernel says now."""

    request: Request
    tree: Tree
    restores: bool = False
    """It only brings back what was there before, which nobody has to ask for again."""

    @property
    def state(self) -> CgroupState:
        """The target as it is."""
        return self.tree.cgroups[self.request.target.path]

    @property
    def above(self) -> tuple[CgroupState, ...]:
        """All above the target, the nearest first."""
        cgroups = self.tree.cgroups
        return tuple(cgroups[path] for path in lineage(self.state.path)[1:] if path in cgroups)

    @property
    def below(self) -> tuple[CgroupState, ...]:
        """All below the target, the deepest first."""
        found = [
            state
            for path, state in self.tree.cgroups.items()
            if path != self.state.path and is_within(path, self.state.path)
        ]
        return tuple(sorted(found, key=lambda state: (-depth(state.path), state.path)))

    @property
    def is_v2_memory(self) -> bool:
        """Whether memory is limited by cgroup v2."""
        return self.tree.versions.get("memory") == V2

    def version(self, knob: Knob) -> int | None:
        """Which version has the limit's controller; ``None``: this node has not got it."""
        return self.tree.versions.get(knob.controller)

    def is_v1(self, key: Key) -> bool:
        """Whether a limit is one of cgroup v1 here."""
        return self.version(knob_of(key)) not in {V2, None}

    def place(self, knob: Knob) -> Place | None:
        """Where the limit is; ``None``: nowhere."""
        version = self.version(knob)
        return None if version is None else knob.place(version)

    def before(self, key: Key) -> Value | None:
        """The limit as it is; ``None``: the target does not offer it."""
        return self.state.values.get(key)


def number_of(value: Value | None) -> int | float | None:
    """Return a value that is a number."""
    return None if isinstance(value, str) else value


def whole(value: Value | None, default: int) -> int:
    """Return a value that is a whole number, ``default`` for anything else."""
    return value if isinstance(value, int) else default


def is_lower(new: Value | None, old: Value | None) -> bool:
    """Whether a limit is going down; what is not known counts as no limit."""
    low, high = number_of(new), number_of(old)
    return (math.inf if low is None else low) < (math.inf if high is None else high)
