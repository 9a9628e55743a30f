"""Dashboards as Python: ``node`` and ``container`` say what is shown, the other modules how."""

from __future__ import annotations

from dashboards.generate import container, node


def files() -> dict[str, str]:
    """Return the text of each dashboard by the name of its file."""
    return {"cgwatch-node.json": node.dashboard(), "cgwatch-container.json": container.dashboard()}
