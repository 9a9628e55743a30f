"""What may be missing, and why that is normal.

The readers report every file that the kernel did not give. Each function here is one tolerance: it returns
its reason, or ``None`` when it does not apply. What none of them explains is a failure, and counted.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from cgwatch.cgroup.files import File
from cgwatch.errors import AccessDeniedError, FileMissingError, KernelFileError, NotSupportedError

KernelVersion = tuple[int, int]


class Circumstances(Struct, frozen=True):
    """What is known of the cgroup whose file is missing."""

    kernel: KernelVersion
    is_root: bool
    controller_enabled: bool
    """Whether the cgroup has the files that every version of the controller has."""


def no_limits_on_the_root(file: File, fault: KernelFileError, here: Circumstances) -> str | None:
    """The root cgroup is the node itself: the kernel does not limit or account it a second time."""
    if here.is_root and not file.on_root and isinstance(fault, FileMissingError):
        return "the root cgroup has no such file"
    return None


def older_kernel(file: File, fault: KernelFileError, here: Circumstances) -> str | None:
    """Files come with kernel versions."""
    if file.since > here.kernel and isinstance(fault, FileMissingError):
        return f"since kernel {file.since[0]}.{file.since[1]}, this is {here.kernel[0]}.{here.kernel[1]}"
    return None


def kernel_option(file: File, fault: KernelFileError, _here: Circumstances) -> str | None:
    """Some files depend on how the kernel was built or booted, or on the I/O scheduler in use."""
    if file.needs and isinstance(fault, FileMissingError | NotSupportedError):
        return f"needs {file.needs}"
    return None


def controller_not_enabled(_file: File, fault: KernelFileError, here: Circumstances) -> str | None:
    """v2: a parent may keep a controller to itself, and threaded cgroups cannot have it."""
    if not here.controller_enabled and isinstance(fault, FileMissingError):
        return "the controller is not enabled for this cgroup (see cgroup.subtree_control of its parent)"
    return None


def threaded_cgroup(file: File, fault: KernelFileError, _here: Circumstances) -> str | None:
    """The processes of a threaded cgroup are listed in its domain cgroup alone."""
    if file.name == "cgroup.procs" and isinstance(fault, NotSupportedError):
        return "a threaded cgroup has threads, its processes are in the cgroup above"
    return None


def not_permitted(_file: File, fault: KernelFileError, _here: Circumstances) -> str | None:
    """An agent without root reads what it may; ``cgwatch doctor`` tells the rest."""
    if isinstance(fault, AccessDeniedError):
        return "not readable by this user: run as root"
    return None


Tolerance = Callable[[File, KernelFileError, Circumstances], str | None]

TOLERANCES: tuple[Tolerance, ...] = (
    no_limits_on_the_root,
    controller_not_enabled,
    older_kernel,
    kernel_option,
    threaded_cgroup,
    not_permitted,
)


def reason(file: File, fault: KernelFileError, here: Circumstances) -> str | None:
    """Return why ``file`` may be missing here, or ``None``: then ``fault`` is a failure."""
    for tolerance in TOLERANCES:
        found = tolerance(file, fault, here)
        if found is not None:
            return found
    return None
