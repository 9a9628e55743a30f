"""The checked-in dashboards, as their panels and expressions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
BOARDS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
VARIABLES = {"job": "cgwatch", "instance": ".+", "name": ".+", "top": "10", "__rate_interval": "1m"}
"""What Grafana puts in; ``.+`` stands for All."""


class Target(Struct, frozen=True):
    """One expression of a panel."""

    board: str
    panel: str
    ref: str
    expr: str
    legend: str
    unit: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} ({self.ref})"


def panels(board: Any) -> Iterator[Any]:
    """Give what is not a row, whether its row is collapsed or not."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def targets() -> list[Target]:
    """Give every expression of every dashboard."""
    return [
        Target(
            name,
            panel["title"],
            target["refId"],
            target["expr"],
            target.get("legendFormat", ""),
            _unit(panel, target["refId"]),
        )
        for name, board in BOARDS.items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def filled_in(expr: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """Put the values of the variables in, as Grafana does."""
    for name, value in variables.items():
        expr = expr.replace(f"${name}", value)
    return expr


def _unit(panel: Any, ref: str) -> str:
    """Give a query's unit: in a table, that of the column that its value becomes."""
    unit: str = panel["fieldConfig"]["defaults"]["unit"]
    for change in panel.get("transformations", []):
        title = change["options"].get("renameByName", {}).get(f"Value #{ref}")
        for override in panel["fieldConfig"]["overrides"]:
            if title and override["matcher"] == {"id": "byName", "options": title}:
                unit = next(each["value"] for each in override["properties"] if each["id"] == "unit")
    return unit
