"""How any file of ``/proc`` is read, and the few tokens that all of them are made of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from cgwatch import errors

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_CHUNK_BYTES = 65536
_LONGEST_NUMBER = 20
"""Digits of 2**64 - 1, the largest that the kernel prints."""
_SHOWN_BYTES = 40
"""As much of a wrong token as an error message repeats."""


def read_bytes(path: str) -> bytes:
    """Return all of a kernel file.

    Files of many records (``net/dev``, ``diskstats``) give about a page for each read(2), whatever the
    buffer: only an empty read is the end. The size that stat(2) tells is 0 for all of them.

    Raises a ``KernelFileError`` with the path.
    """
    chunks = []
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                chunks.append(chunk)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise errors.from_os_error(path, error) from error
    return b"".join(chunks)


def read_link(path: str) -> bytes:
    """Return what a symbolic link of the kernel says; it is not followed.

    Raises a ``KernelFileError`` with the path.
    """
    try:
        return os.readlink(os.fsencode(path))
    except OSError as error:
        raise errors.from_os_error(path, error) from error


def parsed(path: str, data: bytes, parse: Callable[[bytes], T]) -> T:
    """Return ``parse(data)``; a ``ValueError`` of it becomes a ``MalformedFileError`` with the path."""
    try:
        return parse(data)
    except ValueError as error:
        raise errors.MalformedFileError(path, str(error)) from error


def number(token: bytes) -> int:
    """Return an unsigned decimal of at most 64 bits, else raise ``ValueError``.

    ``int`` alone would also take ``+1``, ``1_0`` and numbers too long for a float.
    """
    if not token.isdigit() or len(token) > _LONGEST_NUMBER:
        raise ValueError(f"{shown(token)} is not a number")
    return int(token)


def shown(token: bytes) -> str:
    """Return a token as an error message shows it."""
    return repr(token[:_SHOWN_BYTES])[1:]


def text(token: bytes) -> str:
    r"""Return a name as text; a byte that is no UTF-8 shows as ``\xff``, so two names never become one."""
    return token.decode(errors="backslashreplace")
