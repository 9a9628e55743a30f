"""YAML text to plain values that know their line, so that an error can name its place.

A safe subset on purpose: no anchors, aliases or tags (nothing that grows when it is read), no second
document, no key twice, at most ``MAX_BYTES`` and ``MAX_DEPTH``. Plain scalars mean what YAML 1.2's core
schema says, in decimal: ``yes``, ``on`` and ``1:30`` are text, as they look.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeAlias

import yaml
from msgspec import Struct
from yaml.events import (
    CollectionStartEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from cgwatch.errors import ConfigError
from cgwatch.units import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 16

Scalar: TypeAlias = "str | int | float | bool | None"

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Placed(Struct, frozen=True):
    """One value of a document: a scalar, a list or a mapping of further ``Placed``."""

    line: int
    """Counted from 1."""
    text: str
    """A scalar as it was written, without its quotes; empty for a list and a mapping."""
    value: Scalar | list[Placed] | dict[str, Placed]

    def plain(self) -> object:
        """Return the value without the places: scalars, lists and dictionaries."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


def read_yaml(raw: bytes, name: str) -> Placed:
    """Read one document; an empty one has the value ``None``.

    Raises ``ConfigError`` with the place ``name:line``, or ``name`` alone where the whole file is at fault.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(name, f"is larger than {MAX_BYTES // 1024} KiB; is it the right file?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}", "is not UTF-8; save the file in that encoding") from error
    composer = _Composer(text, name)
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else composer.line
        raise ConfigError(f"{name}:{line}", f"is not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}", "holds a control character; remove it") from error
    except (ValueError, OverflowError) as error:  # PyYAML lets chr() and int() fail on what it scans
        problem = "is not YAML, here or below: an escape or a number is out of range"
        raise ConfigError(f"{name}:{composer.line}", problem) from error


class _Composer:
    """Builds ``Placed`` from the parser's events, and stops at the first that cgwatch does not take."""

    def __init__(self, text: str, name: str) -> None:
        self._events = yaml.parse(text, yaml.SafeLoader)
        self._name = name
        self.line = 1

    def document(self) -> Placed:
        self._next()  # the stream's start
        if isinstance(self._next(), StreamEndEvent):
            return Placed(1, "", None)
        document = self._value(self._next(), depth=1)
        self._next()  # the document's end
        if not isinstance(self._next(), StreamEndEvent):
            raise self._refusal("a second document starts here; write one only")
        return document

    def _next(self) -> Event:
        event = next(self._events)
        if event.start_mark:
            self.line = event.start_mark.line + 1
        return event

    def _refusal(self, problem: str) -> ConfigError:
        return ConfigError(f"{self._name}:{self.line}", problem)

    def _value(self, event: Event, depth: int, key_line: int | None = None) -> Placed:
        if not isinstance(event, ScalarEvent | CollectionStartEvent) or event.anchor is not None:
            raise self._refusal("anchors (&) and aliases (*) are not taken; write the value out")
        if event.tag is not None:
            raise self._refusal(f"the tag {shortened(event.tag)} is not taken; write a plain value")
        if depth > MAX_DEPTH:
            raise self._refusal(f"is nested more than {MAX_DEPTH} levels deep")
        # A value that starts on a later line is still found by its key.
        line = key_line or self.line
        if isinstance(event, ScalarEvent):
            return Placed(line, event.value, _scalar(event.value) if event.implicit[0] else event.value)
        if isinstance(event, SequenceStartEvent):
            return Placed(line, "", list(self._items(depth + 1)))
        return Placed(line, "", self._mapping(depth + 1))

    def _items(self, depth: int) -> Iterator[Placed]:
        while not isinstance(event := self._next(), SequenceEndEvent):
            yield self._value(event, depth)

    def _mapping(self, depth: int) -> dict[str, Placed]:
        found: dict[str, Placed] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._value(event, depth)
            if not isinstance(event, ScalarEvent):
                raise ConfigError(f"{self._name}:{key.line}", "a key is a plain word, such as listen")
            if key.text in found:
                first = found[key.text].line
                raise self._refusal(
                    f"{shortened(key.text)} is written twice, first on line {first}; keep one"
                )
            found[key.text] = self._value(self._next(), depth, key.line)
        return found


def _scalar(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text) and math.isfinite(real := float(text)):
        return real
    return text
