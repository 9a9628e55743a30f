from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import network
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from pathlib import Path

HEADER = b"""\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
"""  # noqa: E501 - as the kernel prints it

KERNEL_6_18 = (
    HEADER
    + b"""\
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0: 343876341    6782    1    2    3     4          5         6   325807    3738    7    8    9    10      11         12
"""  # noqa: E501 - as the kernel prints it
)

ETH0 = network.InterfaceCounters(
    name="eth0",
    receive_bytes_total=343876341,
    receive_packets_total=6782,
    receive_errors_total=1,
    receive_dropped_total=2,
    transmit_bytes_total=325807,
    transmit_packets_total=3738,
    transmit_errors_total=7,
    transmit_dropped_total=8,
)


def named(name: str) -> network.InterfaceCounters:
    return network.InterfaceCounters(name, 0, 0, 0, 0, 0, 0, 0, 0)


def test_each_interface_has_its_counters_in_the_kernels_order() -> None:
    interfaces = network.parse_net_dev(KERNEL_6_18)
    assert [interface.name for interface in interfaces] == ["lo", "ifb0", "eth0"]
    assert interfaces[2] == ETH0


def test_old_kernels_leave_no_space_after_the_colon() -> None:
    line = b"  eth0:343876341 6782 1 2 0 0 0 0 325807 3738 7 8 0 0 0 0\n"
    assert network.parse_net_dev(HEADER + line) == (ETH0,)


def test_an_alias_keeps_the_colon_in_its_name() -> None:
    line = b"eth0:1:343876341 6782 1 2 0 0 0 0 325807 3738 7 8 0 0 0 0\n"
    assert [interface.name for interface in network.parse_net_dev(HEADER + line)] == ["eth0:1"]


def test_a_name_that_is_no_utf_8_is_shown_escaped() -> None:
    line = b"\xff\x01|=:" + b" 0" * 16 + b"\n"
    assert [interface.name for interface in network.parse_net_dev(HEADER + line)] == ["\\xff\x01|="]


def test_a_namespace_without_interfaces_is_empty() -> None:
    assert network.parse_net_dev(HEADER) == ()


def test_the_header_says_where_the_transmitted_side_begins() -> None:
    # Linux 2.0 had no columns "compressed" and "multicast", and no bytes, which cannot be shown.
    header = b"Inter-| Receive | Transmit\n face |bytes packets errs drop|bytes packets errs drop fifo\n"
    (interface,) = network.parse_net_dev(header + b"eth0: 1 2 3 4 5 6 7 8 9\n")
    assert (interface.receive_bytes_total, interface.transmit_bytes_total) == (1, 5)
    without_bytes = b"Inter-| Receive | Transmit\n face |packets errs drop|packets errs drop\n"
    with pytest.raises(ValueError, match="no header"):
        network.parse_net_dev(without_bytes)


@pytest.mark.parametrize(
    "line",
    [
        b"eth0: 1 2 3\n",
        b"eth0 " + b" 0" * 16 + b"\n",
        b":" + b" 0" * 16 + b"\n",
        b"eth0:" + b" 0" * 17 + b"\n",
        b"eth0: -1" + b" 0" * 15 + b"\n",
        b"eth0:" + b" 0" * 8 + b" x" + b" 0" * 7 + b"\n",
    ],
)
def test_a_line_that_is_no_interface_is_an_error_and_never_a_zero(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an interface|is not a number"):
        network.parse_net_dev(HEADER + line)


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(ValueError, match="no header"):
        network.parse_net_dev(b"")


@given(st.binary() | st.binary().map(HEADER.__add__))
@example(HEADER + b":\n")
def test_any_bytes_give_interfaces_or_an_error_with_the_path(data: bytes) -> None:
    try:
        interfaces = parsed("/proc/7/net/dev", data, network.parse_net_dev)
    except MalformedFileError as error:
        assert error.path == "/proc/7/net/dev"  # noqa: PT017 - not raising is as good
    else:
        assert all(interface.name for interface in interfaces)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1),
            st.lists(st.integers(0, 2**64 - 1), min_size=16, max_size=16),
        )
    )
)
def test_whatever_the_kernel_prints_is_read_back(rows: list[tuple[str, list[int]]]) -> None:
    lines = "".join(f"{name:>6}: {' '.join(map(str, counters))}\n" for name, counters in rows)
    assert network.parse_net_dev(HEADER + lines.encode()) == tuple(
        network.InterfaceCounters(name, *counters[:4], *counters[8:12]) for name, counters in rows
    )


def test_what_cadvisor_drops_is_not_counted() -> None:
    names = ["lo", "eth0", "veth12ab", "docker0", "nerdctl0", "DOCKER1", "br-lan", "cni0", "eth0.veth"]
    kept = network.counted(named(name) for name in names)
    assert [interface.name for interface in kept] == ["eth0", "br-lan", "cni0", "eth0.veth"]


def test_this_process_sees_its_loopback() -> None:
    assert "lo" in [interface.name for interface in network.read_net_dev("/proc", os.getpid())]


def test_another_proc_root_is_read(tmp_path: Path) -> None:
    (tmp_path / "7" / "net").mkdir(parents=True)
    (tmp_path / "7" / "net" / "dev").write_bytes(KERNEL_6_18)
    assert ETH0 in network.read_net_dev(str(tmp_path), 7)


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/net/dev: No such file"):
        network.read_net_dev(str(tmp_path), 7)


def test_a_zombie_has_left_its_namespaces() -> None:
    with subprocess.Popen(["true"]) as process:
        # Wait for the exit and leave the zombie, so that the pid stays.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(FileMissingError):
            network.read_net_dev("/proc", process.pid)
