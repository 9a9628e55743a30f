"""Label values in the exposition formats."""

from __future__ import annotations

import re
from functools import lru_cache

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


def escape(value: str) -> str:
    r"""Escape a label's value (both formats have the same rules).

    Text that is no UTF-8 (a cgroup may be named by any bytes but NUL and slash; Python holds such bytes as
    lone surrogates) shows as ``\xff``, so that two names never become one.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value.translate(_ESCAPES)


@lru_cache(maxsize=4096)
def label(name: str, value: str) -> str:
    """Encode one label. The cache holds the few that stand in many series: devices, interfaces."""
    return f'{name}="{escape(value)}"'


def label_name(text: str) -> str:
    """Return ``text`` with ``_`` for every character that a label's name cannot have."""
    return _NOT_IN_A_NAME.sub("_", text)
