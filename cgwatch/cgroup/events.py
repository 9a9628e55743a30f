"""What the kernel says by itself when something happens to the memory of a cgroup.

v2: ``memory.events.local`` (since 5.2, before it ``memory.events``) and ``cgroup.events`` are modified for
inotify(7): an OOM kill, a limit that was hit, the last process that left (cgroup-v2.rst). One descriptor for
all, and two watches for each cgroup. The kernel tells of one file at most a hundred times a second.

v1: an eventfd that is registered at ``memory.oom_control`` is written when the cgroup, or one above it, has
run into its limit for good, and once when it is removed (memory.rst, section 10). One descriptor for each
cgroup.

Either tells *that* something happened; what it was, the counters say, if the cgroup is still there. What
happened before ``add`` is not told.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import Any, Protocol

from cgwatch.errors import FileMissingError, KernelFileError, ReadFailedError, from_os_error

EXHAUSTED = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""A limit of this process, this user or this machine: the next cgroup will not do better."""

_OUT_OF_WATCHES = "no inotify watch is left: raise fs.inotify.max_user_watches (sysctl)"
_OUT_OF_INSTANCES = "no inotify instance is left: raise fs.inotify.max_user_instances (sysctl) or ulimit -n"
_OUT_OF_DESCRIPTORS = "no descriptor is left: raise the limit on open files (ulimit -n, LimitNOFILE=)"
_READ_ONLY = "it takes write access: mount the cgroup file system read-write"
_INOTIFY = "inotify"
_EVENTS_AT_ONCE = 256


class Notifier(Protocol):
    """Tells which cgroups to look at. Not thread-safe."""

    def fileno(self) -> int:
        """Return what becomes readable when there is something to ``take``."""

    def add(self, path: str, directory: str) -> None:
        """Be told of the cgroup ``path``, which lies in ``directory``; it must not be told of already.

        Raises a ``KernelFileError`` that says what to do: ``FileMissingError`` when the cgroup is gone or its
        files are not there, one with an ``errno`` of ``EXHAUSTED`` when no further cgroup has room.
        """

    def remove(self, path: str) -> None:
        """Be told no more of ``path``, if it was."""

    def take(self) -> set[str]:
        """Return the cgroups that something happened in since the last call, without waiting."""

    def close(self) -> None:
        """Close every descriptor."""


def new_inotify() -> tuple[Any, Any]:
    """Return the flags of inotify(7) and an instance that does not wait.

    Raises a ``KernelFileError`` that says what to do when there is none for us.
    """
    # Only needed where there are OOM kills to be told of: with ctypes it is 0.3 MiB.
    import inotify_simple  # type: ignore[import-untyped]  # noqa: PLC0415 - as above; it has no types

    try:
        return inotify_simple.flags, inotify_simple.INotify(nonblocking=True)
    except OSError as error:
        problem = _OUT_OF_INSTANCES if error.errno in EXHAUSTED else os.strerror(error.errno or 0)
        raise ReadFailedError(_INOTIFY, problem, error.errno or 0) from error


class ModifiedEvents:
    """v2: a ``Notifier`` by inotify.

    Raises a ``KernelFileError`` when there is no inotify for us.
    """

    def __init__(self) -> None:
        self._flags, self._inotify = new_inotify()
        self._paths: dict[int, str] = {}
        self._watches: dict[str, list[int]] = {}

    def fileno(self) -> int:
        """See ``Notifier``."""
        descriptor: int = self._inotify.fileno()
        return descriptor

    def add(self, path: str, directory: str) -> None:
        """See ``Notifier``."""
        watches = self._watches[path] = [self._watch_events(directory)]
        self._paths[watches[0]] = path
        try:
            watches.append(self._watch(f"{directory}/cgroup.events"))
        except KernelFileError:
            self.remove(path)
            raise
        self._paths[watches[1]] = path

    def _watch_events(self, directory: str) -> int:
        try:
            return self._watch(f"{directory}/memory.events.local")
        except FileMissingError:
            return self._watch(f"{directory}/memory.events")

    def _watch(self, file: str) -> int:
        try:
            watch: int = self._inotify.add_watch(file, self._flags.MODIFY)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ReadFailedError(file, _OUT_OF_WATCHES, errno.ENOSPC) from error
            raise from_os_error(file, error) from error
        return watch

    def remove(self, path: str) -> None:
        """See ``Notifier``."""
        for watch in self._watches.pop(path, ()):
            # Not there: the kernel has removed it by itself, with the file.
            if self._paths.pop(watch, None) is not None:
                with contextlib.suppress(OSError):  # it has just done so, and the word is not read yet
                    self._inotify.rm_watch(watch)

    def take(self) -> set[str]:
        """See ``Notifier``."""
        found: set[str] = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & self._flags.Q_OVERFLOW:  # something happened somewhere
                found.update(self._watches)
            elif event.mask & self._flags.IGNORED:
                self._paths.pop(event.wd, None)
            elif path := self._paths.get(event.wd):
                found.add(path)
        return found

    def close(self) -> None:
        """See ``Notifier``."""
        self._inotify.close()


class OomNotices:
    """v1: a ``Notifier`` by eventfds, which are as many as there are cgroups."""

    def __init__(self) -> None:
        try:
            self._epoll = select.epoll()
        except OSError as error:
            raise ReadFailedError("epoll", _OUT_OF_DESCRIPTORS, error.errno or 0) from error
        self._paths: dict[int, str] = {}
        self._eventfds: dict[str, int] = {}

    def fileno(self) -> int:
        """See ``Notifier``."""
        return self._epoll.fileno()

    def add(self, path: str, directory: str) -> None:
        """See ``Notifier``."""
        try:
            eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise _refused(directory, error) from error
        try:
            _register(eventfd, directory)
            self._epoll.register(eventfd, select.EPOLLIN)
        except KernelFileError:
            os.close(eventfd)
            raise
        except OSError as error:
            os.close(eventfd)
            raise _refused(directory, error) from error
        self._eventfds[path] = eventfd
        self._paths[eventfd] = path

    def remove(self, path: str) -> None:
        """See ``Notifier``."""
        eventfd = self._eventfds.pop(path, None)
        if eventfd is not None:
            del self._paths[eventfd]
            self._epoll.unregister(eventfd)  # a child that was just forked may still have it open
            os.close(eventfd)  # which ends the registration

    def take(self) -> set[str]:
        """See ``Notifier``."""
        found = set()
        while ready := self._epoll.poll(0, _EVENTS_AT_ONCE):
            for eventfd, _ in ready:
                os.eventfd_read(eventfd)
                found.add(self._paths[eventfd])
        return found

    def close(self) -> None:
        """See ``Notifier``."""
        for path in list(self._eventfds):
            self.remove(path)
        self._epoll.close()


def _register(eventfd: int, directory: str) -> None:
    """Have an eventfd written at each OOM. The two files need not stay open."""
    descriptors: list[int] = []
    file = f"{directory}/memory.oom_control"
    try:
        descriptors.append(os.open(file, os.O_RDONLY))
        file = f"{directory}/cgroup.event_control"
        descriptors.append(os.open(file, os.O_WRONLY))
        os.write(descriptors[1], f"{eventfd} {descriptors[0]}".encode())
    except OSError as error:
        raise _refused(file, error) from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _refused(file: str, error: OSError) -> KernelFileError:
    number = error.errno or 0
    if number in EXHAUSTED:
        return ReadFailedError(file, _OUT_OF_DESCRIPTORS, number)
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadFailedError(file, _READ_ONLY, number)
    return from_os_error(file, error)
