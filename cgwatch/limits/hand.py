"""The hand that writes: a process of its own, which can be killed.

A write to a limit may take long: the kernel reclaims memory in the context of the writer, and Python goes on
after a signal (PEP 475). So writes are made by a small child that is killed at the deadline; the kernel then
stops reclaiming. (On v1 the limit is what it was; on v2 it is set already, and only reclaim was cut short.)

The child is a bare interpreter, without ``site`` and without cgwatch: it starts in 10 ms or so, and lives as
long as one request does. Nothing is forked from the agent's own memory and threads.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CHILD = """
import os, struct, sys
def take(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit()
        data += more
    return data
while True:
    path, text = (take(size) for size in struct.unpack("=II", take(8)))
    number = 0
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text)
        finally:
            os.close(file)
    except OSError as error:
        number = error.errno or -1
    os.write(1, struct.pack("=i", number))
"""
_ANSWER = struct.Struct("=i")


class Hand:
    """Writes files, each within ``deadline_seconds``; a context manager, for one request.

    Not thread-safe.
    """

    def __init__(self, deadline_seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._deadline_seconds = deadline_seconds
        self._monotonic = monotonic
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def write(self, path: str, text: str) -> None:
        """Write ``text`` to the file at once, as the kernel wants it.

        Raises ``OSError`` as the kernel answers, and ``TimeoutError`` at the deadline: then nobody knows
        what became of it, so look.
        """
        child = self._child or self._start()
        raw_path, raw_text = os.fsencode(path), os.fsencode(text)
        assert child.stdin is not None  # noqa: S101 - both are pipes
        assert child.stdout is not None  # noqa: S101 - as above
        os.write(child.stdin.fileno(), struct.pack("=II", len(raw_path), len(raw_text)) + raw_path + raw_text)
        number = self._answer(child.stdout.fileno())
        if number is None:
            self._end()
            raise TimeoutError(
                errno.ETIMEDOUT, f"the kernel was not done with it after {self._deadline_seconds:g} s", path
            )
        if number:
            raise OSError(number, os.strerror(number) if number > 0 else "unknown", path)

    def _answer(self, pipe: int) -> int | None:
        """Return the errno, 0 for none; ``None``: no answer by the deadline, or the child was killed."""
        deadline = self._monotonic() + self._deadline_seconds
        while (left := deadline - self._monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                raw = os.read(pipe, _ANSWER.size)
                return _ANSWER.unpack(raw)[0] if len(raw) == _ANSWER.size else None
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(  # noqa: S603 - our own text
            [sys.executable, "-I", "-S", "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._child = child
        return child

    def _end(self) -> None:
        """Kill the child; one that the kernel does not let go is reaped when it does."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            child.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            _LEFT.append(child)
        for left in list(_LEFT):
            if left.poll() is not None:
                _LEFT.remove(left)


_REAP_SECONDS = 1.0
_LEFT: list[subprocess.Popen[bytes]] = []
"""Killed, and still in the kernel."""
