"""Label values in the exposition formats."""

from __future__ import annotations

import re
from functools import lru_cache

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
_NOT_UTF_8 = re.compile("[\ud800-\udfff\ufffd]")


def escape(value: str) -> str:
    """Escape a label's value (both formats have the same rules); two values never become one.

    A cgroup may be named by any bytes but NUL and slash. Those that are no UTF-8 are lone surrogates to
    Python, and show as U+FFFD with the surrogate's number: U+FFFD and ``dcff`` for the byte ff. U+FFFD itself
    shows with its own number, so that it stands for nothing else.
    """
    return _NOT_UTF_8.sub(_numbered, value).translate(_ESCAPES)


def _numbered(match: re.Match[str]) -> str:
    return f"\ufffd{ord(match[0]):04x}"


@lru_cache(maxsize=4096)
def label(name: str, value: str) -> str:
    """Encode one label. The cache holds the few that stand in many series: devices, interfaces."""
    return f'{name}="{escape(value)}"'


def label_name(text: str) -> str:
    """Return ``text`` with ``_`` for every character that a label's name cannot have."""
    return _NOT_IN_A_NAME.sub("_", text)
