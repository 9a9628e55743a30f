from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.limits.sandbox import Bench, Sandbox
from tests.real.dockerd import root_available
from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    require(root_available())
    made = Sandbox()
    try:
        yield made
    finally:
        made.remove(made.root)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        yield made
    finally:
        made.close()
