"""Everything that cgwatch raises on purpose.

::

    CgwatchError
    ├── ConfigError             a key, a type or a unit in the configuration, with its place
    ├── UnitError               a duration or a size that cannot be read
    ├── NoCgroupsError          no cgroup hierarchy where we were told to look
    ├── ListenError             the address to listen on cannot be had
    ├── AgentUnreachableError   no agent answers on its control socket
    ├── AgentRefusedError       an agent answers, and does not do what it was asked for
    ├── RuntimeUnavailableError a container runtime's API does not answer
    ├── EnforcerBusyError       another process writes the limits of this host
    ├── NameMeaningError        a name means no cgroup, or several


    ├── OwnerRefusedError       Docker or systemd does not take a limit; carries its own words
    ├── UnknownLimitError       no limit has that name; says which are near
    ├── LimitValueError         a limit cannot be what is asked for
    └── KernelFileError         one file of the kernel; always carries its path
        ├── FileMissingError      ENOENT: not offered here, or the cgroup is gone
        ├── CgroupGoneError       ENODEV: the cgroup was removed under an open descriptor
        ├── AccessDeniedError     EACCES, EPERM
        ├── NotSupportedError     EOPNOTSUPP, EINVAL: the kernel has the file but not the feature
        ├── ReadFailedError       any other errno
        ├── MalformedFileError    the text is not what the kernel documents
        └── WriteRefusedError     the kernel did not take a limit; carries the text
            ├── LimitBusyError      EBUSY: more is in use, or a cgroup below needs it
            ├── ValueRefusedError   EINVAL, ERANGE, ENOSPC: not this value, not here or not now
            ├── ReclaimedLessError  EAGAIN: memory.reclaim gave less than was asked for
            └── WriteDeadlineError  the kernel was not done with it in time: nobody knows

The command line prints the message alone, so every message says what to do next or names the place.
"""

from __future__ import annotations

import errno
import os

_NAMES = "limits are named like the kernel's files, such as memory.max, cpu.max or pids.max"
_LONGEST_NAME = 64  # that a message repeats


class CgwatchError(Exception):
    """Base of every error that cgwatch raises on purpose."""


class ConfigError(CgwatchError):
    """A configuration value is wrong; ``place`` is its path, such as ``$.sampling.interval``."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


class UnitError(CgwatchError):
    """A duration or a size is not in a notation that cgwatch knows."""


class NoCgroupsError(CgwatchError):
    """No cgroup hierarchy was found."""


class ListenError(CgwatchError):
    """The address to listen on cannot be had."""


class AgentUnreachableError(CgwatchError):
    """No running agent answers on the control socket; ``nobody``: and none holds it, either."""

    def __init__(self, message: str, *, nobody: bool = False) -> None:
        super().__init__(message)
        self.nobody = nobody


class AgentRefusedError(CgwatchError):
    """The agent does not do what it was asked for; the message has its words."""


class RuntimeUnavailableError(CgwatchError):
    """A container runtime's API cannot be reached or does not answer in time."""


class EnforcerBusyError(CgwatchError):
    """Another process writes the limits of this host; the message names it."""


class NameMeaningError(CgwatchError):
    """A name means no cgroup, or several where one was meant."""


class OwnerRefusedError(CgwatchError):
    """The owner of a cgroup (Docker, systemd) does not take a limit; the message has its own words."""


class UnknownLimitError(CgwatchError):
    """No limit has this name; ``near``: those that may be meant."""

    def __init__(self, name: str, near: tuple[str, ...]) -> None:
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        advice = f"is it {' or '.join(near)}?" if near else _NAMES
        super().__init__(f"there is no limit {shown!r}; {advice}")
        self.name = name
        self.near = near


class LimitValueError(CgwatchError):
    """A limit cannot be this; ``name`` is its key."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class KernelFileError(CgwatchError):
    """Reading one kernel file failed; ``path`` names it, ``errno`` is 0 where the text was at fault."""

    def __init__(self, path: str, problem: str, number: int = 0) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem
        self.errno = number


class FileMissingError(KernelFileError):
    """ENOENT: the kernel does not offer this file here, or the cgroup is gone."""


class CgroupGoneError(KernelFileError):
    """ENODEV or ESRCH: the cgroup or the process was removed while its file was open."""


class AccessDeniedError(KernelFileError):
    """EACCES or EPERM."""


class NotSupportedError(KernelFileError):
    """EOPNOTSUPP or EINVAL: the file is there and the feature is not (threaded cgroup, pressure off)."""


class ReadFailedError(KernelFileError):
    """Any other errno."""


class MalformedFileError(KernelFileError):
    """The text is not what the kernel documents."""


class WriteRefusedError(KernelFileError):
    """The kernel did not take ``text``; ``problem`` says why that is, and what to do."""

    def __init__(self, path: str, text: str, problem: str, number: int = 0) -> None:
        super().__init__(path, problem, number)
        self.text = text


class LimitBusyError(WriteRefusedError):
    """EBUSY: more is in use than the limit allows and none of it can be reclaimed, or a cgroup needs it."""


class ValueRefusedError(WriteRefusedError):
    """EINVAL, ERANGE or ENOSPC: out of range, or against another limit of here, above or below."""


class ReclaimedLessError(WriteRefusedError):
    """EAGAIN: ``memory.reclaim`` reclaimed less than was asked for."""


class WriteDeadlineError(WriteRefusedError):
    """The kernel was not done with a write in time, and was interrupted: nobody knows what became of it."""


_BY_ERRNO: dict[int, type[KernelFileError]] = {
    errno.ENOENT: FileMissingError,
    errno.ENOTDIR: FileMissingError,
    errno.ENODEV: CgroupGoneError,
    errno.ESRCH: CgroupGoneError,
    errno.EACCES: AccessDeniedError,
    errno.EPERM: AccessDeniedError,
    errno.EOPNOTSUPP: NotSupportedError,
    errno.EINVAL: NotSupportedError,
}


def from_os_error(path: str, error: OSError) -> KernelFileError:
    """Turn an ``OSError`` on ``path`` into the error of this tree that says the same."""
    number = error.errno or 0
    kind = _BY_ERRNO.get(number, ReadFailedError)
    return kind(path, os.strerror(number) if number else str(error), number)
