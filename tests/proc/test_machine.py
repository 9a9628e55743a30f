from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, KernelFileError, MalformedFileError
from cgwatch.proc import machine
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KERNEL_6_18_STAT = b"""\
cpu  5468 0 3103 171366 459 0 60 22 0 0
cpu0 1504 0 1143 87537 23 0 6 10 0 0
cpu1 3963 0 1959 83829 436 0 53 11 0 0
intr 198394 0 0 0
ctxt 303471
btime 1795339616
processes 5834
"""

KERNEL_6_18_CPUINFO = b"""\
processor\t: 0
vendor_id\t: AuthenticAMD
physical id\t: 0
siblings\t: 2
core id\t\t: 0
cpu cores\t: 2
power management:

processor\t: 1
vendor_id\t: AuthenticAMD
physical id\t: 0
siblings\t: 2
core id\t\t: 1
cpu cores\t: 2
power management:

"""

TWO_SOCKETS_TWO_CORES_TWO_THREADS = b"".join(
    b"processor\t: %d\nphysical id\t: %d\ncore id\t\t: %d\n\n" % (index, socket, core)
    for index, (socket, core) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)] * 2)
)

ARM64 = b"""\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

"""

S390X = b"""\
vendor_id       : IBM/S390
# processors    : 2
processor 0: version = 00,  identification = 0133E8,  machine = 3906
processor 1: version = 00,  identification = 0133E8,  machine = 3906

cpu number      : 0
physical id     : 1
core id         : 0
book id         : 2
drawer id       : 3

cpu number      : 1
physical id     : 1
core id         : 1
book id         : 4
drawer id       : 3

"""


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    root = tmp_path / "proc"
    write(
        root,
        {
            "stat": KERNEL_6_18_STAT,
            "cpuinfo": KERNEL_6_18_CPUINFO,
            "meminfo": b"MemTotal: 1000 kB\nSwapTotal: 10 kB\n",
            "sys/kernel/random/boot_id": b"0f3652d4-1fd9-43ed-9bbc-134810b7c4a9\n",
            "sys/kernel/osrelease": b"6.18.44\n",
            "1/root/etc/machine-id": b"3d1219c7c4c5404aaa1f6d2a48adfda4\n",
            "1/root/etc/os-release": b'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        },
    )
    write(tmp_path / "sys", {"class/dmi/id/product_uuid": b"EC2E1916-9099-7CAF-FD21-012345ABCDEF\n"})
    write(
        tmp_path / "own",
        {
            "etc/machine-id": b"ffffffffffffffffffffffffffffffff\n",
            "etc/os-release": b"PRETTY_NAME='Of the agent'\n",
        },
    )
    return root


def read(proc: Path, failed: Callable[[KernelFileError], None]) -> machine.Machine:
    beside = proc.parent
    return machine.read_machine(
        str(proc), sys_root=str(beside / "sys"), root=str(beside / "own"), failed=failed
    )


def unexpected(error: KernelFileError) -> None:
    raise error


def test_a_machine_is_read_from_the_given_roots_alone(proc: Path) -> None:
    assert read(proc, unexpected) == machine.Machine(
        cores=2,
        physical_cores=2,
        sockets=1,
        books=0,
        drawers=0,
        memory_bytes=1000 * 1024,
        swap_bytes=10 * 1024,
        machine_id="3d1219c7c4c5404aaa1f6d2a48adfda4",
        system_uuid="EC2E1916-9099-7CAF-FD21-012345ABCDEF",
        boot_id="0f3652d4-1fd9-43ed-9bbc-134810b7c4a9",
        kernel_release="6.18.44",
        os_name="Debian GNU/Linux 12 (bookworm)",
        boot_time_seconds=1795339616.0,
        user_hz=os.sysconf("SC_CLK_TCK"),
    )


def test_without_the_hosts_root_the_agents_own_says_who_the_machine_is(proc: Path) -> None:
    (proc / "1/root/etc/machine-id").unlink()
    (proc / "1/root/etc/os-release").unlink()
    found = read(proc, unexpected)
    assert found.machine_id == "f" * 32
    assert found.os_name == "Of the agent"


def test_the_machine_id_of_dbus_stands_in_for_systemds(proc: Path) -> None:
    (proc / "1/root/etc/machine-id").write_bytes(b"")
    write(proc, {"1/root/var/lib/dbus/machine-id": b"dbus\n"})
    assert read(proc, unexpected).machine_id == "dbus"


def test_a_machine_that_has_not_finished_its_first_boot_has_no_id(proc: Path) -> None:
    (proc / "1/root/etc/machine-id").write_bytes(b"uninitialized\n")
    (proc.parent / "own/etc/machine-id").unlink()
    assert read(proc, unexpected).machine_id == ""


def test_identifiers_that_are_not_there_are_empty_and_no_failure(proc: Path) -> None:
    for path in ("1/root/etc/machine-id", "1/root/etc/os-release"):
        (proc / path).unlink()
    for path in ("own/etc/machine-id", "own/etc/os-release", "sys/class/dmi/id/product_uuid"):
        (proc.parent / path).unlink()
    found = read(proc, unexpected)
    assert (found.machine_id, found.os_name, found.system_uuid) == ("", "", "")


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("stat", {"cores": None, "boot_time_seconds": None}),
        ("cpuinfo", {"physical_cores": None, "sockets": None, "books": None, "drawers": None}),
        ("meminfo", {"memory_bytes": None, "swap_bytes": None}),
        ("sys/kernel/random/boot_id", {"boot_id": ""}),
        ("sys/kernel/osrelease", {"kernel_release": ""}),
    ],
)
def test_a_file_that_fails_is_reported_and_everything_else_goes_on(
    proc: Path, name: str, lost: dict[str, object]
) -> None:
    whole = read(proc, unexpected)
    (proc / name).unlink()
    failures: list[KernelFileError] = []
    found = read(proc, failures.append)
    assert [(type(error), error.path) for error in failures] == [(FileMissingError, str(proc / name))]
    differing = {
        field: getattr(found, field)
        for field in machine.Machine.__struct_fields__
        if getattr(found, field) != getattr(whole, field)
    }
    assert differing == lost


def test_a_malformed_file_is_reported_with_its_path(proc: Path) -> None:
    (proc / "meminfo").write_bytes(b"MemTotal: lots\n")
    failures: list[KernelFileError] = []
    assert read(proc, failures.append).memory_bytes is None
    assert [(type(error), error.path) for error in failures] == [(MalformedFileError, str(proc / "meminfo"))]


def test_this_machine_is_what_psutil_says_it_is() -> None:
    found = machine.read_machine("/proc", failed=unexpected)
    assert found.cores == psutil.cpu_count()
    assert found.physical_cores == psutil.cpu_count(logical=False)
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.boot_time_seconds == psutil.boot_time()
    assert found.kernel_release == os.uname().release


def test_core_ids_that_repeat_from_socket_to_socket_are_different_cores() -> None:
    assert machine.parse_cpuinfo(TWO_SOCKETS_TWO_CORES_TWO_THREADS) == machine.Cpuinfo(
        physical_cores=4, sockets=2, books=0, drawers=0
    )


def test_where_cpuinfo_has_no_topology_there_is_one_socket_and_the_cores_are_not_said() -> None:
    assert machine.parse_cpuinfo(ARM64) == machine.Cpuinfo(physical_cores=None, sockets=1, books=0, drawers=0)


def test_s390x_has_books_and_drawers() -> None:
    assert machine.parse_cpuinfo(S390X) == machine.Cpuinfo(physical_cores=2, sockets=1, books=2, drawers=1)


def test_cores_that_cpuinfo_does_not_tell_are_psutils_for_this_machine_alone(proc: Path) -> None:
    (proc / "cpuinfo").write_bytes(ARM64)
    assert read(proc, unexpected).physical_cores is None
    of_this_machine = machine.read_machine(str(proc), failed=unexpected)
    assert of_this_machine.physical_cores == psutil.cpu_count(logical=False)


@pytest.mark.parametrize("data", [b"", b"btime 1\n", b"cpu0 1\n", b"cpu 1\nbtime 1\n", b"cpu0 1\nbtime x\n"])
def test_a_stat_without_cpus_or_boot_time_is_malformed(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no line cpu0|is not a number"):
        machine.parse_machine_stat(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"PRETTY_NAME=Alpine\n", "Alpine"),
        (b'# PRETTY_NAME="no"\n\nPRETTY_NAME="Say \\"hi\\" \\$5"\n', 'Say "hi" $5'),
        (b"PRETTY_NAME=''\n", ""),
        (b"NAME=Alpine\n", ""),
        (b'PRETTY_NAME="open\n', '"open'),
        (b"", ""),
    ],
)
def test_the_name_of_the_system_is_unquoted_as_by_a_shell(data: bytes, name: str) -> None:
    assert machine.parse_os_name(data) == name


@given(st.binary() | st.binary().map(KERNEL_6_18_STAT.__add__))
def test_any_stat_gives_a_value_or_an_error_with_the_path(data: bytes) -> None:
    assert_value_or_error(data, machine.parse_machine_stat)


@given(st.binary() | st.binary().map(b"physical id:".__add__))
def test_any_cpuinfo_gives_a_value_or_an_error_with_the_path(data: bytes) -> None:
    assert_value_or_error(data, machine.parse_cpuinfo)


@given(st.binary() | st.binary().map(b"PRETTY_NAME=".__add__))
def test_any_os_release_gives_a_value_or_an_error_with_the_path(data: bytes) -> None:
    assert_value_or_error(data, machine.parse_os_name)


@given(st.binary())
def test_any_identifier_gives_a_value_or_an_error_with_the_path(data: bytes) -> None:
    assert_value_or_error(data, machine.parse_identifier)


def assert_value_or_error(data: bytes, parse: Callable[[bytes], object]) -> None:
    try:
        value = parsed("/proc/x", data, parse)
    except MalformedFileError as error:
        assert error.path == "/proc/x"  # noqa: PT017 - not raising is as good
    else:
        assert value is not None
