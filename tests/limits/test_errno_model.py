"""The model's truth: the same writes to it and to a real kernel, and the same answers.

v1 natively; test_real_limits.py has it done on v2 as well, in QEMU.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cgwatch.cgroup.knobs import KNOBS
from tests.limits.errno_model import Kernel
from tests.limits.real_cgroups import MACHINE, RealCgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

BELOW = ("/above", "/above/one", "/above/one/deep", "/above/two")
# Never so little that the memory of the cgroups below themselves, which the kernel charges, is in the way.
_size = st.sampled_from(("8388608", "10000001", "104857600", "9223372036854775807", "-1", "max", "x"))
_quota = st.sampled_from(("-1", "-2", "0", "999", "1000", "20000", "50000", "100000", "400000", "max"))
_period = st.sampled_from(("999", "1000", "50000", "100000", "1000000", "1000001", "-1"))
_number = st.sampled_from(("0", "1", "2", "100", "10000", "10001", "262144", "1000000000", "-1", "x"))
_cpus = st.sampled_from(("0", "1", "0-1", "\n", "5000", "x", "1-0"))
_bound = st.sampled_from(("0", "1", "1048576", "4294967294", "-1", "x"))
_io = st.builds(
    lambda device, words: " ".join((device, *words)),
    st.sampled_from(("DEVICE", "DEVICE", "251:77")),
    st.lists(
        st.sampled_from(
            ("rbps=1048576", "rbps=max", "wbps=1", "riops=0", "riops=9", "wiops=4294967294", "rbps=1M", "x=1")
        ),
        max_size=3,
    ),
)
_V1 = {
    "memory.limit_in_bytes": _size,
    "memory.memsw.limit_in_bytes": _size,
    "memory.soft_limit_in_bytes": _size,
    "cpu.cfs_quota_us": _quota,
    "cpu.cfs_period_us": _period,
    "cpu.cfs_burst_us": _quota,
    "cpu.shares": _number,
    "cpu.idle": _number,
    "cpuset.cpus": _cpus,
    "pids.max": st.one_of(_number, st.sampled_from(("max", "4194304", "4194305"))),
    "blkio.throttle.read_bps_device": _bound.map("DEVICE {}".format),
    "blkio.throttle.write_iops_device": _bound.map("DEVICE {}".format),
    "freezer.state": st.sampled_from(("FROZEN", "THAWED", "FREEZING")),
}
_V2 = {
    **{f"memory.{name}": _size for name in ("max", "high", "low", "min")},
    "memory.oom.group": _number,
    "cpu.max": st.builds("{}{}".format, _quota, st.one_of(st.just(""), _period.map(" {}".format))),
    "cpu.max.burst": _quota,
    "cpu.weight": _number,
    "cpu.idle": _number,
    "cpuset.cpus": _cpus,
    "pids.max": _V1["pids.max"],
    "io.max": _io,
    "cgroup.freeze": _number,
}
_READ = {"freezer.state": "freezer.self_freezing"}
_CONTROLLERS = {
    place.file: knob.controller for knob in KNOBS for place in (knob.v1, knob.v2) if place is not None
}


@pytest.fixture
def real() -> Iterator[RealCgroups]:
    cgroups = RealCgroups()
    try:
        yield cgroups
    finally:
        cgroups.close()


def _answer(cgroups: RealCgroups, below: str, file: str, text: str) -> int:
    path = cgroups.directory(below, _CONTROLLERS[file]) / file
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(descriptor)
    return 0


def _model_answer(kernel: Kernel, below: str, file: str, text: str) -> int:
    try:
        kernel.write(below, file, text)
    except OSError as error:
        return error.errno or -1
    return 0


@settings(
    max_examples=15 if MACHINE in os.environ else 40,
    # Inside a machine there is no time to look for the smallest example.
    phases=[Phase.explicit, Phase.generate] if MACHINE in os.environ else list(Phase),
    database=None,
    deadline=None,
    # What nobody has looked at yet is found by those who run it, and does not stop others.
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_model_answers_every_write_as_the_real_kernel_does(
    real: RealCgroups, data: st.DataObject
) -> None:
    table = _V1 if real.version == 1 else _V2
    files = sorted(
        file
        for file in table
        if real.has(_CONTROLLERS[file]) and (real.directory("", _CONTROLLERS[file]) / file).exists()
    )
    assert len(files) > len(table) // 2
    kernel = Kernel(real.version, device=real.device, cpus=os.cpu_count() or 1)
    made = RealCgroups()
    try:
        for below in BELOW:
            made.make(below)
            kernel.make(below)
            if real.version == 1:
                kernel.write(below, "cpuset.cpus", f"0-{max(kernel.cpus)}")
                kernel.write(below, "cpuset.mems", "0")
        for _ in range(data.draw(st.integers(5, 30))):
            below, file = data.draw(st.sampled_from(BELOW)), data.draw(st.sampled_from(files))
            text = data.draw(table[file]).replace("DEVICE", made.device)
            answer, expected = _answer(made, below, file, text), _model_answer(kernel, below, file, text)
            assert _named(answer) == _named(expected), (below, file, text)
            _compare(made, kernel, files)
    finally:
        made.close()


def _compare(real: RealCgroups, kernel: Kernel, files: list[str]) -> None:
    shown = kernel.shown()
    for below in BELOW:
        for file in files:
            path = real.directory(below, _CONTROLLERS[file]) / _READ.get(file, file)
            expected = shown[below, file]
            if file == "freezer.state":
                expected = f"{int('FROZEN' in expected)}\n"
            assert path.read_text() == expected, (below, file)


def _named(number: int) -> str:
    return errno.errorcode.get(number, "nothing") if number else "done"
