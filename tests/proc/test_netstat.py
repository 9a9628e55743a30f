from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import netstat
from cgwatch.proc.reading import parsed

SNMP = b"""\
Ip: Forwarding DefaultTTL InReceives
Ip: 1 64 181398
Icmp: InMsgs InErrors
Icmp: 52 0
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens CurrEstab InCsumErrors
Tcp: 1 200 120000 -1 8265 3 0
Udp: InDatagrams NoPorts
Udp: 715 0
"""
NETSTAT = b"""\
TcpExt: SyncookiesSent TW TCPTimeouts
TcpExt: 0 5784 259
IpExt: InNoRoutes InOctets
IpExt: 0 3441324420
"""


def write(proc: Path, snmp: bytes, netstat_: bytes) -> None:
    (proc / "7" / "net").mkdir(parents=True)
    (proc / "7" / "net" / "snmp").write_bytes(snmp)
    (proc / "7" / "net" / "netstat").write_bytes(netstat_)


def test_both_files_give_one_table_of_tcp_and_of_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, SNMP, NETSTAT)
    assert netstat.read_tcp_counters(str(tmp_path), 7) == {
        "rtoalgorithm": 1,
        "rtomin": 200,
        "rtomax": 120000,
        "maxconn": -1,
        "activeopens": 8265,
        "currestab": 3,
        "incsumerrors": 0,
        "syncookiessent": 0,
        "tw": 5784,
        "tcptimeouts": 259,
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Udp: A\nUdp: 1\n",
        b"Tcp: A B\n",
        b"Tcp: A B\nTcp: 1\n",
        b"Tcp: A\nTcp: 1\nTcp: A\nTcp: 1\n",
        b"Tcp: A\nTcp: x\n",
        b"Tcp: A\nTcp: --1\n",
        b"TcpExt: A\nTcpExt: 1\n",
    ],
)
def test_what_is_not_two_lines_of_as_many_words_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a line of names|is not a number"):
        netstat.parse_counters(data, b"Tcp")


def test_the_malformed_one_of_the_two_files_is_named(tmp_path: Path) -> None:
    write(tmp_path, SNMP, b"TcpExt: A B\nTcpExt: 1\n")
    with pytest.raises(MalformedFileError, match="/7/net/netstat: not a line of names"):
        netstat.read_tcp_counters(str(tmp_path), 7)


@given(
    st.binary()
    | st.builds(
        lambda names, values: b"Tcp: " + b" ".join(names) + b"\nTcp: " + b" ".join(values) + b"\n",
        st.lists(st.binary(max_size=3), max_size=4),
        st.lists(st.binary(max_size=3), max_size=4),
    )
)
def test_any_bytes_give_counters_or_an_error_with_the_path(data: bytes) -> None:
    try:
        counters = parsed("/proc/7/net/snmp", data, lambda text: netstat.parse_counters(text, b"Tcp"))
    except MalformedFileError as error:
        assert error.path == "/proc/7/net/snmp"  # noqa: PT017 - not raising is as good
    else:
        assert all(name == name.lower() for name in counters)


@given(
    st.dictionaries(st.text("ABCDEFGabcdefg123", min_size=1).map(str.lower), st.integers(-(2**63), 2**64 - 1))
)
def test_whatever_the_kernel_prints_is_read_back(counters: dict[str, int]) -> None:
    names, values = " ".join(counters), " ".join(map(str, counters.values()))
    data = f"TcpExt: {names}\nTcpExt: {values}\nIpExt: X\nIpExt: 1\n".encode()
    assert netstat.parse_counters(data, b"TcpExt") == counters


def test_a_connection_on_this_machine_is_counted() -> None:
    before = netstat.read_tcp_counters("/proc", os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        after = netstat.read_tcp_counters("/proc", os.getpid())
    assert after["activeopens"] > before["activeopens"]
    assert after["passiveopens"] > before["passiveopens"]
    assert after["rtomax"] == 120000
    assert "tcptimeouts" in after


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/net/snmp: No such file"):
        netstat.read_tcp_counters(str(tmp_path), 7)
