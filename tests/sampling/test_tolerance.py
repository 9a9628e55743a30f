"""One test for each tolerance, under its name; and that nothing else is tolerated."""

from __future__ import annotations

import errno
import os

import pytest

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import integer
from cgwatch.errors import KernelFileError, MalformedFileError, from_os_error
from cgwatch.sampling import tolerance
from cgwatch.sampling.tolerance import TOLERANCES, Circumstances, reason

PLAIN = File("memory.current", integer)
HERE = Circumstances(kernel=(6, 1), is_root=False, controller_enabled=True)


def fault(number: int) -> KernelFileError:
    return from_os_error("/sys/fs/cgroup/a/file", OSError(number, os.strerror(number)))


MISSING = fault(errno.ENOENT)


def test_a_file_that_should_be_there_is_a_failure_whatever_the_kernel_answers() -> None:
    for number in (
        errno.ENOENT,
        errno.EOPNOTSUPP,
        errno.EINVAL,
        errno.EIO,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENODEV,
    ):
        assert reason(PLAIN, fault(number), HERE) is None


def test_no_limits_on_the_root() -> None:
    file = File("memory.max", integer, on_root=False)
    root = Circumstances((6, 1), is_root=True, controller_enabled=True)
    assert tolerance.no_limits_on_the_root(file, MISSING, root)
    assert reason(file, MISSING, root)
    assert reason(file, MISSING, HERE) is None
    assert reason(PLAIN, MISSING, root) is None
    assert reason(file, fault(errno.EIO), root) is None


def test_older_kernel() -> None:
    file = File("memory.peak", integer, since=(5, 19))
    said = reason(file, MISSING, Circumstances((5, 15), is_root=False, controller_enabled=True))
    assert said == "since kernel 5.19, this is 5.15"
    assert tolerance.older_kernel(file, MISSING, HERE) is None
    assert reason(file, MISSING, Circumstances((5, 19), is_root=False, controller_enabled=True)) is None
    assert (
        reason(file, fault(errno.EIO), Circumstances((4, 4), is_root=False, controller_enabled=True)) is None
    )


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL])
def test_kernel_option(number: int) -> None:
    # Reading a pressure file gives EOPNOTSUPP with psi=0, or after "echo 0 > cgroup.pressure".
    file = File("cpu.pressure", integer, needs="pressure stall information")
    assert tolerance.kernel_option(file, fault(number), HERE) == "needs pressure stall information"
    assert reason(file, fault(number), HERE)
    assert reason(file, fault(errno.EIO), HERE) is None


def test_controller_not_enabled() -> None:
    disabled = Circumstances((6, 1), is_root=False, controller_enabled=False)
    assert "cgroup.subtree_control" in str(tolerance.controller_not_enabled(PLAIN, MISSING, disabled))
    assert reason(PLAIN, MISSING, disabled)
    assert reason(PLAIN, MISSING, HERE) is None
    assert reason(PLAIN, fault(errno.EOPNOTSUPP), disabled) is None


def test_threaded_cgroup() -> None:
    file = File("cgroup.procs", integer)
    assert tolerance.threaded_cgroup(file, fault(errno.EOPNOTSUPP), HERE)
    assert reason(file, fault(errno.EOPNOTSUPP), HERE)
    assert reason(PLAIN, fault(errno.EOPNOTSUPP), HERE) is None
    assert reason(file, MISSING, HERE) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_not_permitted(number: int) -> None:
    assert tolerance.not_permitted(PLAIN, fault(number), HERE)
    assert "root" in str(reason(PLAIN, fault(number), HERE))


def test_a_malformed_file_is_never_tolerated() -> None:
    malformed = MalformedFileError("/sys/fs/cgroup/a/file", "expected one integer")
    anything = File("cgroup.procs", integer, since=(9, 9), on_root=False, needs="luck")
    for is_root in (True, False):
        for enabled in (True, False):
            assert reason(anything, malformed, Circumstances((3, 10), is_root, enabled)) is None


def test_every_tolerance_has_a_test_of_its_name() -> None:
    assert {f"test_{one.__name__}" for one in TOLERANCES} <= globals().keys()
