"""Structs as bytes for the database, whatever texts they hold. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


def encoded(encode: Callable[[object], bytes], value: object) -> bytes:
    """Encode a struct, whatever its texts hold.

    The names of containers and of processes are up to them. Lone surrogates, which no encoder takes, are
    stored as they are spelled; they must not cost a kill, nor the agent.
    """
    try:
        return encode(value)
    except UnicodeEncodeError:
        return encode(storable(msgspec.to_builtins(value)))


def storable(value: object) -> object:
    """Return a value whose texts any encoder takes; most often the same."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {storable(key): storable(each) for key, each in value.items()}
        case list() | tuple():
            return [storable(each) for each in value]
        case _:
            return value
