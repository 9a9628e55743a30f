from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cgwatch.errors import AccessDeniedError, FileMissingError, MalformedFileError, ReadFailedError
from cgwatch.proc import reading


def open_descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def test_a_file_that_comes_in_pieces_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "file").write_bytes(content)
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 4096)))
    assert reading.read_bytes(str(tmp_path / "file")) == content


def test_a_kernel_file_whose_size_is_told_as_zero_is_read() -> None:
    assert reading.read_bytes("/proc/self/cmdline") != b""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(FileMissingError) as raised:
        reading.read_bytes(path)
    assert raised.value.path == path


def test_a_failed_read_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(ReadFailedError) as raised:
        reading.read_bytes(str(tmp_path))
    assert raised.value.path == str(tmp_path)
    assert open_descriptors() == before


def test_a_link_is_read_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "net").symlink_to("net:[4026531840]")
    assert reading.read_link(str(tmp_path / "net")) == b"net:[4026531840]"


def test_a_missing_link_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(FileMissingError) as raised:
        reading.read_link(path)
    assert raised.value.path == path


def test_a_refusal_of_the_kernel_is_an_access_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "readlink", refuse)
    with pytest.raises(AccessDeniedError, match="/proc/1/ns/net: Permission denied"):
        reading.read_link("/proc/1/ns/net")


def test_what_a_parser_complains_of_becomes_an_error_with_the_path() -> None:
    with pytest.raises(MalformedFileError, match="/proc/x: 'no' is not a number") as raised:
        reading.parsed("/proc/x", b"no", reading.number)
    assert raised.value.path == "/proc/x"


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_every_counter_of_64_bits_is_a_number(value: int) -> None:
    assert reading.number(b"%d" % value) == value


@pytest.mark.parametrize(
    "token", [b"", b"-1", b"+1", b"1_0", b" 1", b"0x1", b"1.5", b"9" * 21, "٣".encode(), b"max"]
)
def test_what_the_kernel_never_prints_for_a_number_is_refused(token: bytes) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        reading.number(token)


def test_an_error_message_does_not_repeat_a_whole_file() -> None:
    with pytest.raises(ValueError, match="is not a number") as raised:
        reading.number(b"x" * 10_000)
    assert len(str(raised.value)) < 100


@given(st.binary(), st.binary())
def test_two_names_never_become_one_unless_one_spells_the_escape(first: bytes, second: bytes) -> None:
    assume(first != second and b"\\x" not in first + second)
    assert reading.text(first) != reading.text(second)


@given(st.binary())
def test_a_name_is_always_text_that_can_be_served(name: bytes) -> None:
    # Surrogates, Python's other way out, cannot be encoded.
    assert reading.text(name).encode().decode() == reading.text(name)
