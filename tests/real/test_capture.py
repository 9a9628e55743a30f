"""What a captured tree must not hold, wherever it was captured."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest

from tests.real.capture_node import MOST_BYTES

TREES = Path(__file__).resolve().parents[1] / "trees"
KERNELS_WORD = re.compile(r"(net|pipe|socket):\[\d+\]|anon_inode:\S+|/dev/\S+|/some/file")

each_tree = pytest.mark.parametrize("tree", sorted(place.name for place in TREES.iterdir()))


@each_tree
def test_a_link_leads_to_what_the_kernel_calls_it_and_to_no_file_of_the_machine(tree: str) -> None:
    links = [str(place.readlink()) for place in (TREES / tree).rglob("*") if place.is_symlink()]

    assert [link for link in links if not KERNELS_WORD.fullmatch(link)] == []
    assert any(link.startswith("net:[") for link in links)


@each_tree
def test_a_table_of_sockets_names_no_address_but_this_machines_own(tree: str) -> None:
    tables = [
        table
        for name in ("tcp", "tcp6", "udp", "udp6")
        for table in (TREES / tree / "proc").glob(f"*/net/{name}")
    ]
    addresses = [
        words[column].partition(":")[0]
        for table in tables
        for words in map(str.split, table.read_text().splitlines()[1:])
        for column in (1, 2)
    ]

    assert [address for address in addresses if not is_own(address)] == []
    assert tables


def is_own(printed: str) -> bool:
    """Tell whether an address is nobody else's; its words of four bytes are printed as little-endian ones."""
    data = bytes.fromhex(printed)
    address = ipaddress.ip_address(b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4)))
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_unspecified or address.is_loopback


@each_tree
def test_a_tree_is_made_of_small_files(tree: str) -> None:
    places = [place for place in (TREES / tree).rglob("*") if place.is_file() and not place.is_symlink()]

    assert [place for place in places if place.stat().st_size > MOST_BYTES] == []
