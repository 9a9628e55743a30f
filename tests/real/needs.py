"""What happens to a test whose kernel or runtime is not there."""

from __future__ import annotations

import os

import pytest


def require(reason: str | None) -> None:
    """Go on if ``reason`` is None; else skip for it, or fail where real kernels are required.

    They are with ``CI=true`` or ``CGWATCH_REQUIRE_REAL=1`` in the environment.
    """
    if reason is None:
        return
    if os.environ.get("CI") == "true" or os.environ.get("CGWATCH_REQUIRE_REAL") == "1":
        pytest.fail(f"real kernels are required here, and this test {reason}", pytrace=False)
    pytest.skip(reason)
