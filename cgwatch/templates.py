"""Texts with placeholders, ``OOM kill of $name``, which people write and which run nothing. Pure.

A placeholder is replaced by a text, once: there are no expressions, no attributes and no second pass, so
neither a configuration nor a container's name can do more than be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from string import Template
from types import MappingProxyType
from typing import Final

from cgwatch.errors import UnitError
from cgwatch.units import shortened

PLACEHOLDERS: Final = MappingProxyType(
    {
        "kind": "what happened: oom_kill, or test",
        "number": "the kill's, as cgwatch oom explain takes it",
        "node": "this node's name",
        "name": "the container's, or else the path of the cgroup",
        "runtime": "docker, containerd, ...",
        "image": "the container's",
        "cause": "own_limit, ancestor_limit, global, ...",
        "scope": "what was killed: main, child, group",
        "command": "of the process that was killed",
        "summary": "why it happened, in one sentence",
        "facts": "what is known, in some sentences",
        "advice": "what to do, in some sentences",
    }
)
"""What a template may name, and what it stands for; empty where it is not known."""


def check(text: str) -> str:
    """Return a template that is well-formed and names nothing unknown. Raises ``UnitError``."""
    template = Template(text)
    if not template.is_valid():
        raise UnitError(f"{shortened(text)} has a $ that begins no placeholder; write $$ for the sign itself")
    for name in template.get_identifiers():
        if name not in PLACEHOLDERS:
            closest = get_close_matches(name, PLACEHOLDERS, n=1, cutoff=0)[0]
            raise UnitError(
                f"{shortened(text)} names ${name}, which is not known; did you mean ${closest}? "
                f"Known are {', '.join(PLACEHOLDERS)}"
            )
    return text


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put the values in; a placeholder without one stays empty."""
    return Template(text).substitute({name: values.get(name, "") for name in PLACEHOLDERS}).strip()
