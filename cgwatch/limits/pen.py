"""Steps in one cgroup, each with what undoes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.cgroup.limit_text import write_of
from cgwatch.change import CgroupState, Key, Step
from cgwatch.limits.scene import Scene


class Pen:
    """Writes down steps for one cgroup, and knows what its limits are after each."""

    def __init__(self, scene: Scene, state: CgroupState) -> None:
        self.values = dict(state.values)
        self.steps: list[Step] = []
        self._path = state.path
        self._versions = scene.tree.versions

    def write(
        self,
        key: Key,
        values: Mapping[Key, Value],
        *,
        keys: tuple[Key, ...] | None = None,
        waits_for: str = "",
        undoes: bool = True,
    ) -> None:
        """Write the file of ``key``, after which the limits in ``values`` are so.

        ``keys``: as those of the step, if not those of the file. ``undoes``: whether there is anything to
        undo.
        """
        version = self._versions[knob_of(key).controller]
        # A device that nobody bounds is in no file.
        before = {key: knob_of(key).default, **self.values}
        undo = write_of(version, key, before)
        write = write_of(version, key, {**self.values, **values})
        self.steps.append(
            Step(
                self._path,
                write.controller,
                write.file,
                write.text,
                undo.text if undoes else None,
                write.keys if keys is None else keys,
                waits_for,
            )
        )
        self.values |= values

    def set(self, key: Key, value: Value) -> None:
        """Write one limit that is in a file of its own."""
        self.write(key, {key: value})

    def written(self, key: Key, value: Value) -> list[Step]:
        """Write one limit of a cgroup that nobody asked about; return the step alone."""
        self.write(key, {key: value}, keys=())
        return self.steps[-1:]
