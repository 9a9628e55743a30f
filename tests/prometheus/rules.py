"""The checked-in rules of Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
FOLDER = CONFIG / "prometheus"
FILES = sorted(FOLDER.glob("rules/*.yml"))
TESTS = sorted(FOLDER.glob("tests/*.yml"))
RULES: list[dict[str, Any]] = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDS = [rule for rule in RULES if "record" in rule]


def name_of(rule: dict[str, Any]) -> str:
    """Name a rule: by its alert and the reason for it, or by what it records."""
    if "record" in rule:
        return str(rule["record"])
    return " ".join([rule["alert"], *filter(None, [rule["labels"].get("reason")])])
