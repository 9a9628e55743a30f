"""Where in which file: a value with its line and its key, for errors that name both. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from cgwatch.errors import ConfigError
from cgwatch.placed_yaml import Placed

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class Spot(Struct, frozen=True):
    """One value of a file."""

    file: str
    placed: Placed
    key: str = "$"

    def at(self, *steps: str | int) -> Spot:
        """Return what is further down; what is not there has the place of the nearest above it."""
        spot = self
        for step in steps:
            value = spot.placed.value
            if isinstance(value, dict) and step in value:
                inner = value[str(step)]
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                inner = value[step]
            else:
                return spot
            spot = Spot(
                self.file, inner, f"{spot.key}[{step}]" if isinstance(step, int) else _joined(spot.key, step)
            )
        return spot

    def along(self, path: str) -> Spot:
        """Return what a path such as ``$.policies[0].name`` names."""
        steps = [int(index) if index.isdecimal() else name for name, index in _STEP.findall(path)]
        return self.at(*steps)

    def entries(self) -> Iterator[tuple[str, Spot]]:
        """Yield the entries of a mapping."""
        if isinstance(self.placed.value, dict):
            for name in self.placed.value:
                yield name, self.at(name)

    def items(self) -> Iterator[Spot]:
        """Yield the items of a list; the value itself where it is none."""
        if isinstance(self.placed.value, list):
            for index in range(len(self.placed.value)):
                yield self.at(index)
        else:
            yield self

    def has(self, name: str) -> bool:
        """Whether a mapping has this key."""
        return isinstance(self.placed.value, dict) and name in self.placed.value

    @property
    def text(self) -> str:
        """A scalar, as it was written."""
        return self.placed.text

    def error(self, problem: str) -> ConfigError:
        """Return the error that names this place."""
        return ConfigError(f"{self.file}:{self.placed.line}: {self.key}", problem)


def _joined(key: str, name: str) -> str:
    # A limit's name has dots itself.
    return f'{key}["{name}"]' if "." in name else f"{key}.{name}"
