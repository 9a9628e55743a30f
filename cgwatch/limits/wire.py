r"""The nouns of limits as JSON: between the command line and an agent, and for ``--format json``.

JSON has no number for "no limit", so that is the kernel's own word, ``"max"``; and paths may hold bytes that
are no text, which Python carries as lone surrogates: they are escapes (``\udcff``), and come back the same.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct, structs

from cgwatch.cgroup.knobs import Value
from cgwatch.change import Key
from cgwatch.errors import CgwatchError

T = TypeVar("T")

_NO_LIMIT = "max"


class WireError(CgwatchError):
    """A text is not the JSON that was awaited; the message has msgspec's place."""


def builtins(value: object) -> Any:  # noqa: ANN401 - whatever JSON has
    """Return a struct, or a list of them, as JSON can hold it."""
    return _finite(msgspec.to_builtins(value))


def encode(value: object) -> bytes:
    """Return JSON, of ASCII alone."""
    return json.dumps(builtins(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def decode(content: bytes, kind: type[T]) -> T:
    """Return what ``encode`` was given. Raises ``WireError``."""
    try:
        found = msgspec.convert(json.loads(content, parse_constant=_no_constant), kind)
    except (ValueError, RecursionError) as error:  # msgspec's is a ValueError
        raise WireError(str(error)) from error
    return cast("T", _limitless(found))


def _limitless(value: object) -> object:
    """Return ``math.inf`` for the word that stands for it, wherever the value of a limit is."""
    if isinstance(value, Struct):
        values, mappings = _value_fields(type(value))
        changed = {}
        for name in value.__struct_fields__:
            part = getattr(value, name)
            if name in values:
                changed[name] = _of_word(part)
            elif name in mappings:
                changed[name] = {key: _of_word(each) for key, each in part.items()}
            else:
                changed[name] = _limitless(part)
        return structs.replace(value, **changed)
    if isinstance(value, tuple | list):
        return type(value)(map(_limitless, value))
    return value


@functools.lru_cache
def _value_fields(kind: type[Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """Return which fields hold the value of a limit, and which hold some by key."""
    fields = structs.fields(kind)
    return (
        frozenset(field.name for field in fields if field.type in (Value, Value | None)),
        frozenset(field.name for field in fields if field.type == Mapping[Key, Value]),
    )


def _of_word(value: object) -> object:
    return math.inf if value == _NO_LIMIT else value


def _finite(value: object) -> object:
    match value:
        case float() if value == math.inf:
            return _NO_LIMIT
        case Mapping():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value


def _no_constant(word: str) -> Value:
    raise ValueError(f"{word} is no number of JSON")
