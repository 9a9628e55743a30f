"""A program that takes memory step by step: ``python -S program.py STEP...``, a step ``VERB=ARGUMENT,...``.

It imports next to nothing, so that what it takes is what there is of it, and touches every page.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time

_PIPE_BYTES = 1 << 20
_KEPT: list[object] = []
_BLOCK = b"x" * (1 << 20)


def anon(size: str) -> None:
    """Take anonymous memory at once, and keep it."""
    area = mmap.mmap(-1, int(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(area), mmap.PAGESIZE):
        area[offset] = 1
    _KEPT.append(area)


def leak(size: str, seconds: str) -> None:
    """Take so much anonymous memory every so many seconds, for ever."""
    begin = time.monotonic()
    turn = 0
    while True:
        anon(size)
        turn += 1
        time.sleep(max(0.0, begin + turn * float(seconds) - time.monotonic()))


def workers(count: str, size: str) -> None:
    """Start processes that keep so much anonymous memory each, and wait until they have it."""
    for _ in range(int(count)):
        reader, writer = os.pipe()
        if not os.fork():
            anon(size)
            os.write(writer, b".")
            while True:
                time.sleep(3600)
        os.read(reader, 1)


def file(size: str, path: str) -> None:
    """Write a file, here: one on a disk leaves clean page cache, one in a tmpfs is memory."""
    with open(path, "wb") as out:
        left = int(size)
        while left > 0:
            left -= out.write(_BLOCK[:left])
        out.flush()
        os.fsync(out.fileno())


def files(size: str, seconds: str, folder: str) -> None:
    """Write one more file of so many bytes every so many seconds, for ever."""
    begin = time.monotonic()
    turn = 0
    while True:
        file(size, f"{folder}/{turn}")
        turn += 1
        time.sleep(max(0.0, begin + turn * float(seconds) - time.monotonic()))


def pipes(size: str, seconds: str) -> None:
    """Fill a pipe of so many bytes every so many seconds, for ever: it is memory of the kernel."""
    while True:
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, int(size))
        os.set_blocking(writer, False)
        left = int(size)
        while left > 0:
            left -= os.write(writer, _BLOCK[:left])
        _KEPT.append((reader, writer))
        time.sleep(float(seconds))


def wait(seconds: str) -> None:
    """Do nothing."""
    time.sleep(float(seconds))


VERBS = {each.__name__: each for each in (anon, leak, workers, file, files, pipes, wait)}

if __name__ == "__main__":
    for step in sys.argv[1:]:
        verb, _, arguments = step.partition("=")
        VERBS[verb](*arguments.split(","))
