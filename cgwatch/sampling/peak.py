"""The highest memory usage of a cgroup, where the kernel does not keep it (cgroup v2 before 5.19)."""

from __future__ import annotations

from msgspec import structs

from cgwatch.cgroup.memory import MemoryStats


class OwnPeak:
    """The highest usage among the samples of one cgroup of one identity.

    What comes and goes between two samples is not in it, nor what was before the first one: it is a lower
    bound of what the kernel would say.
    """

    __slots__ = ("_peak_bytes", "_said", "_shown")

    def __init__(self) -> None:
        self._peak_bytes: int | None = None
        self._said: MemoryStats | None = None
        self._shown: MemoryStats | None = None

    def complete(self, memory: MemoryStats | None) -> MemoryStats | None:
        """Return ``memory`` with the peak; the very same object again for the very same one."""
        if memory is not self._said:
            self._said = memory
            self._shown = memory and self._with_peak(memory)
        return self._shown

    def _with_peak(self, memory: MemoryStats) -> MemoryStats:
        seen = [size for size in (self._peak_bytes, memory.usage_bytes) if size is not None]
        self._peak_bytes = max(seen, default=None)
        return structs.replace(memory, peak_bytes=self._peak_bytes, peak_is_sampled=True)
