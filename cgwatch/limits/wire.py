r"""The nouns of limits as JSON: between the command line and an agent, and for ``--format json``.

JSON has no number for "no limit", so that is the kernel's own word, ``"max"``; and paths may hold bytes that
are no text, which Python carries as lone surrogates: they are escapes (``\udcff``), and come back the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from cgwatch.cgroup.knobs import Value
from cgwatch.change import Change, Outcome, Report, Request
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
    """Return what ``encode`` was given; in ``Request`` and ``Report`` values without a limit, too.

    Raises ``WireError``.
    """
    try:
        found = msgspec.convert(json.loads(content, parse_constant=_no_constant), kind)
    except (ValueError, RecursionError) as error:  # msgspec's is a ValueError
        raise WireError(str(error)) from error
    if isinstance(found, Request):
        return _request(found)  # type: ignore[return-value]  # T is Request
    if isinstance(found, Report):
        return _report(found)  # type: ignore[return-value]  # T is Report
    return found


def no_limit(value: Any) -> Any:  # noqa: ANN401 - a Value, or None
    """Return ``math.inf`` for the word that stands for it."""
    return math.inf if value == _NO_LIMIT else value


def _request(said: Request) -> Request:
    return structs.replace(said, wanted={key: no_limit(value) for key, value in said.wanted.items()})


def _report(said: Report) -> Report:
    return structs.replace(
        said, request=_request(said.request), outcomes=tuple(_outcome(each) for each in said.outcomes)
    )


def _outcome(said: Outcome) -> Outcome:
    return structs.replace(
        said,
        change=_change(said.change),
        read_back=no_limit(said.read_back),
        effective=no_limit(said.effective),
    )


def _change(said: Change) -> Change:
    return structs.replace(
        said, before=no_limit(said.before), asked=no_limit(said.asked), to=no_limit(said.to)
    )


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
