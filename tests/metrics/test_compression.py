from __future__ import annotations

import gzip
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.metrics import compression

PARTS = st.lists(st.binary(max_size=300) | st.binary(max_size=4).map(lambda some: some * 5000), max_size=5)


@given(PARTS, PARTS, PARTS)
def test_what_is_compressed_once_can_be_completed_again_and_again(
    beginning: list[bytes], one: list[bytes], other: list[bytes]
) -> None:
    compressed = compression.compress(beginning)

    for rest in (one, other, one):
        page = compressed.completed(rest)
        assert gzip.decompress(page) == b"".join((*beginning, *rest))


def test_a_page_is_a_single_member_which_every_client_reads() -> None:
    page = compression.compress([b"a" * 70_000]).completed([b"b" * 70_000])

    one_member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert one_member.decompress(page) == b"a" * 70_000 + b"b" * 70_000
    assert one_member.eof
    assert one_member.unused_data == b""


def test_without_the_faster_library_a_page_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(compression)["zlib"] is sys.modules["isal.isal_zlib"]
    monkeypatch.setattr(compression, "zlib", zlib)

    assert gzip.decompress(compression.compress([b"one\n"]).completed([b"two\n"])) == b"one\ntwo\n"
