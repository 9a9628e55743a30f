"""The families of what a runtime says of its containers: cgwatch's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.metrics.conformance.rules import COUNTER, GAUGE, Captured, NodeRow, Row, Rule


def _said(cgroup: Captured) -> Mapping[str, Any]:
    """Give Docker's answer for a cgroup's container; empty for what is none of Docker's."""
    place = cgroup.directories[0]
    tree = next(folder.parent for folder in (place, *place.parents) if folder.name == "cgroup")
    answers = tree / "docker.json"
    said: list[Mapping[str, Any]] = json.loads(answers.read_text()) if answers.exists() else []
    return next((each for each in said if each["Id"] in cgroup.path.rpartition("/")[2]), {})


def _described(cgroup: Captured) -> bool:
    return bool(_said(cgroup))


def _has_ended(cgroup: Captured) -> bool:
    said = _said(cgroup)
    return bool(said) and not said["State"]["FinishedAt"].startswith("0001-")


def _has_ended_for_now(cgroup: Captured) -> bool:
    return _has_ended(cgroup) and not _said(cgroup)["State"]["Running"]


def _is_checked(cgroup: Captured) -> bool:
    return "Health" in _said(cgroup).get("State", {})


def _row(name: str, kind: str, labels: tuple[str, ...], rule: Rule) -> Row:
    return Row(name, kind, labels, rule, rule, own=True)


ROWS: tuple[Row, ...] = (
    _row("container_state", GAUGE, ("state",), _described),
    _row("container_restarts_total", COUNTER, (), _described),
    _row("container_exit_code", GAUGE, (), _has_ended_for_now),
    _row("container_finished_time_seconds", GAUGE, (), _has_ended),
    _row("container_oom_killed", GAUGE, (), _described),
    _row("container_health_status", GAUGE, ("status",), _is_checked),
)
NODE_ROWS: tuple[NodeRow, ...] = (NodeRow("cgwatch_stopped_containers_left_out", GAUGE, own=True),)
