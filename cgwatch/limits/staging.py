"""Lowering memory below what is used without killing: reclaim first. Pure.

v2: the write of ``memory.max`` kills as soon as the kernel has failed to reclaim for a while. The write of
``memory.high`` reclaims as well, and never kills; when usage has come down, ``memory.max`` follows. v1: the
kernel reclaims, or refuses (EBUSY) and leaves the limit as it was.
"""

from __future__ import annotations

from cgwatch.change import Change
from cgwatch.limits.guards import Guards, with_margin
from cgwatch.limits.scene import Scene, number_of


def is_staged(scene: Scene, maximum: Change, guards: Guards) -> bool:
    """Whether memory is reclaimed before ``memory.max`` is lowered: where usage is above it, or nearly so.

    Not with force: who says so does not wait for what may never be.
    """
    usage, to = scene.state.memory_usage_bytes, number_of(maximum.to)
    if usage is None or to is None or scene.request.force or not scene.is_v2_memory:
        return False
    return to < with_margin(usage, guards)
