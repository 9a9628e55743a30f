"""The hand that writes: a process of its own, which can be killed.

A write to a limit may take long: the kernel reclaims memory in the context of the writer, and Python goes on
after a signal (PEP 475). So writes are made by a small child that is killed at the deadline; the kernel then
stops reclaiming. (On v1 the limit is what it was; on v2 it is set already, and only reclaim was cut short.)

The child is a bare interpreter, without ``site`` and without cgwatch: it starts in 10 ms or so, writes in a
tenth of one, and lives as long as one request does. Nothing is forked from the agent's memory and threads.

An agent that is killed may leave a child in the middle of a write. It has the host's lock open as well, so
that no other agent begins before it is done; and an alarm ends it when nobody else does.
"""

from __future__ import annotations

import errno
import math
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable

from cgwatch.cgroup.limit_files import NotOpenedError
from cgwatch.errors import WriteDeadlineError

_CHILD = """
import os, struct, sys
import _signal as signal  # without enum, which takes as long as all else
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
    opened = number = 0
    signal.alarm(int(sys.argv[1]))
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        opened = 1
        try:
            if os.write(file, text) != len(text):
                number = 5
        finally:
            os.close(file)
    except OSError as error:
        number = error.errno
    signal.alarm(0)
    try:
        os.write(1, struct.pack("=ii", opened, number))
    except OSError:
        sys.exit()
"""
_ANSWER = struct.Struct("=ii")


class Hand:
    """Writes files, each within ``deadline_seconds``; to be ended after each request. Not thread-safe.

    ``shared``: the descriptors that the child has open as well.
    """

    def __init__(
        self,
        deadline_seconds: float,
        *,
        shared: Callable[[], tuple[int, ...]] = tuple,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._shared = shared
        self._monotonic = monotonic
        self._child: subprocess.Popen[bytes] | None = None

    def write(self, path: str, raw: bytes) -> None:
        """Write the file once; as ``limit_files.write_file``, in the child.

        Raises ``NotOpenedError``, ``OSError`` as the kernel answers, and ``WriteDeadlineError``.
        """
        child = self._child or self._start()
        raw_path = os.fsencode(path)
        assert child.stdin is not None  # noqa: S101 - both are pipes
        assert child.stdout is not None  # noqa: S101 - as above
        os.write(child.stdin.fileno(), struct.pack("=II", len(raw_path), len(raw)) + raw_path + raw)
        answer = self._answer(child.stdout.fileno())
        if answer is None:
            self.end()
            raise WriteDeadlineError(
                path,
                raw.decode("ascii", "replace"),
                f"the kernel was not done with it after {self._deadline_seconds:g} s (limits.deadline)",
                errno.ETIMEDOUT,
            )
        opened, number = answer
        if number:
            kind = OSError if opened else NotOpenedError
            raise kind(number, os.strerror(number), path)

    def _answer(self, pipe: int) -> tuple[int, int] | None:
        """Return whether the file was opened, and the errno, 0 for none; ``None``: no answer in time."""
        waiting = select.poll()  # not select(2): an agent has more than 1024 files open
        waiting.register(pipe, select.POLLIN)
        deadline = self._monotonic() + self._deadline_seconds
        while (left := deadline - self._monotonic()) > 0:
            if waiting.poll(math.ceil(left * 1000)):
                raw = os.read(pipe, _ANSWER.size)
                if len(raw) != _ANSWER.size:
                    return None  # somebody killed it
                opened, number = _ANSWER.unpack(raw)
                return opened, number
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(  # noqa: S603 - our own text
            [sys.executable, "-I", "-S", "-c", _CHILD, str(math.ceil(self._deadline_seconds) + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._shared(),
        )
        self._child = child
        return child

    def end(self) -> None:
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
