from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import sockets
from cgwatch.proc.sockets import TcpSockets, UdpSockets

TCP_HEADER = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
"""
TCP = (
    TCP_HEADER
    + b"""\
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1581 1 000000002f8e61da 100 0 0 10 0
   1: 0100007F:E740 0100007F:A1E1 06 00000000:00000000 03:0000036E 00000000     0        0 0 3 000000009cf94a3c
   2: 0100007F:E744 0100007F:A1E1 06 00000000:00000000 03:00000382 00000000     0        0 0 3 00000000e25cf7f3
123456: 0100007F:E744 0100007F:A1E1 01 00000000:00000000 00:00000000 00000000  1000        0 9 1 (____ptrval____) 20 4 30 10 -1
"""  # noqa: E501 - as the kernel prints it, but for the spaces at the ends of the lines
)
TCP6 = b"""\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:AABA 00000000000000000000000001000000:99F7 08 00000000:00000000 03:00000A62 00000000     0        0 0 3 00000000b607eca3
"""  # noqa: E501 - as the kernel prints it
UDP = b"""\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            
  393: 0100007F:A1E1 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 18301 2 00000000c0ffee00 7          
 1234: 0100007F:A1E2 0100007F:0035 01 00000A00:00000000 00:00000000 00000000   101        0 18302 2 00000000c0ffee01 35         
"""  # noqa: E501, W291 - as the kernel prints it
UDP6_HEADER = b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"  # noqa: E501
STATES = TcpSockets.__struct_fields__[:-1]


def tcp_line(state: int) -> bytes:
    return b"   0: 00000000:07E8 00000000:0000 %02X 00000000:00000000 00:00000000 \n" % state


def write(proc: Path, name: str, data: bytes) -> None:
    (proc / "7" / "net").mkdir(parents=True)
    (proc / "7" / "net" / name).write_bytes(data)


def test_sockets_are_counted_by_state() -> None:
    assert sockets.count_tcp([TCP]) == TcpSockets(listen=1, timewait=2, established=1)


def test_the_addresses_of_ipv6_are_longer() -> None:
    assert sockets.count_tcp([TCP6]) == TcpSockets(closewait=1)


def test_the_eleven_states_have_cadvisors_names_in_the_kernels_order() -> None:
    names = "established synsent synrecv finwait1 finwait2 timewait close closewait lastack listen closing"
    assert names.split() == list(STATES)
    for state, name in enumerate(STATES, start=1):
        assert sockets.count_tcp([TCP_HEADER, tcp_line(state)]) == msgspec.convert({name: 1}, TcpSockets)


def test_udp_sockets_are_added_up() -> None:
    assert sockets.count_udp([UDP]) == UdpSockets(
        sockets=2, unconnected=1, dropped=42, receive_queue_bytes=0x300, transmit_queue_bytes=0xA00
    )


def test_a_namespace_without_sockets_has_none() -> None:
    assert sockets.count_tcp([TCP_HEADER]) == TcpSockets()
    assert sockets.count_udp([UDP6_HEADER]) == UdpSockets()


@pytest.mark.parametrize(
    "line", [b"\n", b"0: 00000000:07E8 00000000:0000\n", tcp_line(0), tcp_line(12), b"x" + tcp_line(1)]
)
def test_a_line_that_is_no_tcp_socket_is_an_error_and_never_a_zero(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a socket: "):
        sockets.count_tcp([TCP, line])


@pytest.mark.parametrize("line", [b"\n", tcp_line(7), UDP.splitlines()[1].replace(b" 7  ", b" -7 ") + b"\n"])
def test_a_line_that_is_no_udp_socket_is_an_error_and_never_a_zero(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a socket: "):
        sockets.count_udp([UDP, line])


@pytest.mark.parametrize("data", [b"", b"\n", b"sl", TCP[len(TCP_HEADER) :]])
def test_a_table_without_its_header_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no header that names the columns"):
        sockets.count_tcp([data])


@given(st.lists(st.integers(0, len(TCP))))
def test_it_does_not_matter_in_which_pieces_a_table_comes(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TCP)]
    pieces = [TCP[start:end] for start, end in itertools.pairwise(edges)]
    assert sockets.count_tcp(pieces) == sockets.count_tcp([TCP])


@given(st.lists(st.integers(1, 11)))
def test_whatever_states_the_kernel_prints_are_counted(states: list[int]) -> None:
    found = sockets.count_tcp([TCP_HEADER, *map(tcp_line, states)])
    assert [getattr(found, name) for name in STATES] == [states.count(number) for number in range(1, 12)]


@given(st.lists(st.binary() | st.sampled_from([TCP_HEADER, tcp_line(1), UDP, b"\n", b" "])))
def test_any_bytes_give_counts_or_an_error_that_says_why(pieces: list[bytes]) -> None:
    for count in (sockets.count_tcp, sockets.count_udp):
        try:
            found = count(pieces)
        except ValueError as error:
            assert "socket" in str(error) or "header" in str(error)  # noqa: PT017 - not raising is as good
        else:
            assert min(getattr(found, name) for name in found.__struct_fields__) >= 0


def test_a_table_that_ends_within_a_line_was_cut() -> None:
    assert sockets.count_tcp([TCP[:-10]]) == TcpSockets(listen=1, timewait=2, is_cut=True)
    assert sockets.count_udp([UDP[:-1]]).is_cut


def test_no_more_is_read_than_the_bound(tmp_path: Path) -> None:
    write(tmp_path, "tcp", TCP + tcp_line(1) * 10_000)
    whole = sockets.read_tcp_sockets(str(tmp_path), 7)
    assert whole == TcpSockets(listen=1, timewait=2, established=10_001)
    cut = sockets.read_tcp_sockets(str(tmp_path), 7, most_bytes=100_000)
    assert cut.is_cut
    assert 1000 < cut.established < 3000


def test_a_table_that_ends_at_the_bound_was_not_cut(tmp_path: Path) -> None:
    write(tmp_path, "udp", UDP)
    assert sockets.read_udp_sockets(str(tmp_path), 7, most_bytes=len(UDP)) == sockets.count_udp([UDP])


def test_a_table_that_goes_on_at_the_bound_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "tcp", TCP_HEADER + tcp_line(1) + tcp_line(1))
    read = os.read
    first = len(TCP_HEADER + tcp_line(1))
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, first)))
    assert sockets.read_tcp_sockets(str(tmp_path), 7, most_bytes=first) == TcpSockets(
        established=1, is_cut=True
    )


def test_a_malformed_table_is_named_and_its_descriptor_closed(tmp_path: Path) -> None:
    write(tmp_path, "tcp6", TCP6 + b"lots\n")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MalformedFileError, match="/7/net/tcp6: not a socket: 'lots'"):
        sockets.read_tcp_sockets(str(tmp_path), 7, "tcp6")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/net/udp6: No such file"):
        sockets.read_udp_sockets(str(tmp_path), 7, "udp6")


IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, socket, struct
with socket.socket() as control:  # lo up: SIOCSIFFLAGS, IFF_UP
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 1))
server = socket.create_server(("127.0.0.1", 0))
clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
accepted = [server.accept()[0] for _ in clients]
accepted[0].close()
taker = socket.socket(type=socket.SOCK_DGRAM)
taker.bind(("127.0.0.1", 0))
sender = socket.socket(type=socket.SOCK_DGRAM)
sender.connect(taker.getsockname())
sender.send(b"x" * 1000)
print("ready", flush=True)
input()
"""


@pytest.fixture(scope="module")
def process_with_sockets() -> Iterator[int]:
    """Give a process that alone is in its network namespace, with a few sockets on the loopback."""
    with subprocess.Popen(
        ["unshare", "--net", sys.executable, "-W", "ignore", "-c", IN_A_NETWORK_OF_ITS_OWN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            process.wait()
            pytest.skip("needs the right to make a network namespace")
        yield process.pid
        process.stdin.write(b"\n")
        process.stdin.close()


def test_the_tcp_sockets_of_a_real_namespace_are_counted(process_with_sockets: int) -> None:
    found = sockets.read_tcp_sockets("/proc", process_with_sockets)
    assert (found.listen, found.established, found.closewait) == (1, 4, 1)
    # The other end of the closed one gets its acknowledgement when the kernel finds the time.
    assert found.finwait1 + found.finwait2 == 1
    assert not found.is_cut


def test_the_udp_sockets_of_a_real_namespace_are_added_up(process_with_sockets: int) -> None:
    found = sockets.read_udp_sockets("/proc", process_with_sockets)
    assert (found.sockets, found.unconnected, found.dropped) == (2, 1, 0)
    # What arrived waits to be read; what was sent over the loopback is no longer to be sent.
    assert found.receive_queue_bytes >= 1000
    assert found.transmit_queue_bytes == 0


def test_this_kernels_ipv6_tables_are_understood(process_with_sockets: int) -> None:
    if not os.path.exists("/proc/self/net/tcp6"):
        pytest.skip("needs IPv6")
    assert sockets.read_tcp_sockets("/proc", process_with_sockets, "tcp6") == TcpSockets()
    assert sockets.read_udp_sockets("/proc", process_with_sockets, "udp6") == UdpSockets()
