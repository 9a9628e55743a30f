"""One writer of limits for each host: a lock on a file that the kernel gives back when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os


class HostLock:
    """A lock that the process holds or not; ``path`` is the same for all of a host.

    Where the directory of ``path`` can be neither made nor written to, ``fallback`` is taken; then those who
    share that one exclude each other.
    """

    def __init__(self, path: str, fallback: str) -> None:
        self._paths = (path, fallback)
        self._file: int | None = None
        self.path = path

    @property
    def is_held(self) -> bool:
        """Whether this process has it."""
        return self._file is not None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What holds it, for a child of ours: it is held until that has ended as well."""
        return () if self._file is None else (self._file,)

    def acquire(self) -> bool:
        """Take it if nobody has it; never waits. Raises ``OSError`` where neither path can be used."""
        if self._file is not None:
            return True
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        os.ftruncate(file, 0)
        os.pwrite(file, b"%d\n" % os.getpid(), 0)
        self._file = file
        return True

    def release(self) -> None:
        """Give it back. The file stays: removing it would let two hold locks on two files of one name."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)

    def holder(self) -> int | None:
        """Return the process id that its holder wrote; ``None``: it is not known."""
        try:
            with open(self.path, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    def _open(self) -> int:
        problem: OSError | None = None
        for path in self._paths:
            try:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                problem = error
                continue
            self.path = path
            return file
        assert problem is not None  # noqa: S101 - there is a path
        raise problem
