"""What decides knows nothing of the machine: what a pure module imports is read from its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cgwatch

PACKAGE = Path(cgwatch.__file__).parent
IMPURE = frozenset({"os", "socket", "time", "logging", "threading"})
PURE = (
    "cgroup.formats",
    "cgroup.knob",
    "cgroup.knobs",
    "cgroup.knob_values",
    "cgroup.limit_text",
    "cgroup.refusals",
    "change",
    "limits.effective",
    "limits.goal",
    "limits.guards",
    "limits.levels",
    "limits.normalise",
    "limits.order",
    "limits.pen",
    "limits.plan",
    "limits.scene",
    "limits.staging",
    "model",
    "usage",
    "discovery.recognise",
    "metrics.families",
    "metrics.text",
    "metrics.negotiation",
    "oom.kill",
    "oom.observation",
    "oom.dialect",
    "oom.state",
    "oom.books",
    "oom.matching",
    "oom.verdict",
    "oom.ledger",
    "oom.history",
    "oom.evidence",
    "oom.forensics",
    "oom.shape",
    "oom.case",
    "oom.facts",
    "oom.circumstances",
    "oom.words",
    "oom.advice",
    "oom.explain",
    "oom.statement",
    "oom.pace",
    "oom.readings",
    "oom.tally",
    "templates",
    "notify.message",
    "notify.kills",
    "notify.rate",
    "notify.outcome",
    "notify.alerts",
    "limits.resolve",
    "limits.view",
    "limits.docker_view",
    "limits.wire",
    "encoding",
    "limits.protect",
    "limits.verify",
    "limits.writers.choice",
    "policy",
)


def files_of(module: str) -> list[Path]:
    """Return the source of a module, or of everything in a package."""
    path = PACKAGE.joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


SOURCES = [path for module in PURE for path in files_of(module)]


def imported(source: str) -> set[str]:
    """Return the first name of every module that is imported anywhere in the source."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            found.add("__import__")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_pure_module_imports_nothing_that_has_effects(path: Path) -> None:
    assert not imported(path.read_text()) & (IMPURE | {"__import__", "importlib", "subprocess"})


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import os.path as p",
        "from os import path",
        "def f():\n    import time",
        "if 1:\n  from threading import Lock",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert imported(source) & IMPURE
    assert not imported("import osmosis\nfrom . import os\n") & IMPURE
