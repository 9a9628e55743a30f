from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, KernelFileError, MalformedFileError, ReadFailedError
from cgwatch.proc import kmsg
from cgwatch.proc.kmsg import KernelLog, Lost, Record, epoch_seconds, parse_record
from cgwatch.proc.reading import parsed
from tests.real.needs import require


def never(error: KernelFileError) -> None:
    raise AssertionError(error)


def test_a_record_has_a_number_a_time_and_a_text() -> None:
    assert parse_record(b"3,1263,3140010062,-;Memory cgroup out of memory\n") == Record(
        sequence=1263, time_microseconds=3140010062, level=3, facility=0, text="Memory cgroup out of memory"
    )


def test_what_a_process_wrote_has_another_facility_than_the_kernel() -> None:
    record = parse_record(b"12,5,1,-;hello\n")
    assert (record.facility, record.level) == (1, 4)


def test_lines_after_the_text_are_a_dictionary() -> None:
    record = parse_record(b"6,1,2,-;pci 0000:00:00.0: found\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n")
    assert record.text == "pci 0000:00:00.0: found"
    assert record.dictionary == {"SUBSYSTEM": "pci", "DEVICE": "+pci:0000:00:00.0"}


def test_fields_that_are_newer_than_we_are_skipped_and_the_caller_is_known() -> None:
    assert parse_record(b"6,1,2,-,caller=T42,new=1;text\n").caller == "T42"
    assert parse_record(b"6,1,2,-,new=1;text\n").caller == ""


@pytest.mark.parametrize(("flag", "continues"), [(b"-", False), (b"c", True), (b"+", True)])
def test_the_rest_of_a_long_line_is_marked(flag: bytes, continues: bool) -> None:  # noqa: FBT001 - a row
    assert parse_record(b"6,1,2," + flag + b";text\n").continues is continues


def test_escaped_bytes_are_the_bytes_themselves() -> None:
    assert parse_record(rb"6,1,2,-;a\x0ab\x5cx2d \xc3\xa9;, \xff").text == "a\nb\\x2d \u00e9;, \\xff"


@pytest.mark.parametrize(
    "data", [b"", b"text\n", b"6,1;text\n", b"a,1,2,-;t\n", b"6,1,2,-\n", b"-1,1,2,-;t\n"]
)
def test_what_is_no_record_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_record(data)


@given(st.binary() | st.binary().map(b"6,1,2,-;".__add__))
def test_any_bytes_give_a_record_or_an_error_with_the_path(data: bytes) -> None:
    try:
        record = parsed(kmsg.PATH, data, parse_record)
    except MalformedFileError as error:
        assert error.path == kmsg.PATH  # noqa: PT017 - not raising is as good
    else:
        assert record.sequence >= 0


@given(st.binary(max_size=100))
def test_whatever_the_kernel_escapes_comes_out_as_it_went_in(name: bytes) -> None:
    escaped = b"".join(
        bytes((byte,)) if 32 <= byte < 127 and byte != ord("\\") else b"\\x%02x" % byte for byte in name
    )
    record = parse_record(b"6,1,2,-;" + escaped + b"\n")
    assert record.text == name.decode(errors="backslashreplace")


def test_a_time_since_boot_is_a_time_since_the_epoch() -> None:
    assert epoch_seconds(1_500_000, 1_000.0) == 1_001.5


class FakeLog:
    """A log whose reads are given: bytes, or an error to raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.reads: list[bytes | OSError] = []
        self.path = str(tmp_path / "kmsg")
        Path(self.path).touch()
        monkeypatch.setattr(os, "read", self._read)

    def _read(self, _descriptor: int, _size: int) -> bytes:
        read = self.reads.pop(0) if self.reads else BlockingIOError()
        if isinstance(read, OSError):
            raise read
        return read


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLog:
    return FakeLog(monkeypatch, tmp_path)


def record_of(sequence: int) -> bytes:
    return b"6,%d,1,-;text\n" % sequence


def told(found: list[Record | Lost]) -> list[int | Lost]:
    return [item.sequence if isinstance(item, Record) else item for item in found]


def test_all_that_is_there_is_read_and_nobody_waits_for_more(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [record_of(7), record_of(8)]
        assert told(log.read()) == [7, 8]
        assert log.read() == []
        fake.reads = [record_of(9)]
        assert told(log.read()) == [9]


def test_a_flood_is_read_in_portions(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [record_of(number) for number in range(10)]
        assert told(log.read(limit=4)) == [0, 1, 2, 3]
        assert told(log.read()) == [4, 5, 6, 7, 8, 9]


def test_a_missing_number_is_a_loss(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [record_of(7), record_of(10)]
        assert told(log.read()) == [7, Lost(2), 10]


def test_an_overrun_is_a_loss_of_as_many_as_are_missing(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [record_of(7), BrokenPipeError(32, "Broken pipe"), record_of(100)]
        assert told(log.read()) == [7, Lost(92), 100]


def test_an_overrun_before_the_first_record_is_a_loss_of_unknown_size(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [BrokenPipeError(32, "Broken pipe"), record_of(100)]
        assert told(log.read()) == [Lost(None), 100]


def test_at_the_end_the_number_of_the_last_record_is_known_and_what_is_missing_after_it(
    fake: FakeLog,
) -> None:
    fake.reads = [record_of(6), BrokenPipeError(32, "Broken pipe"), record_of(7)]
    with KernelLog(fake.path, failed=never) as log:
        assert log.sequence == 7
        fake.reads = [record_of(9)]
        assert told(log.read()) == [Lost(1), 9]
        assert log.sequence == 9


def test_it_goes_on_after_the_last_record_that_was_read_before(fake: FakeLog) -> None:
    with KernelLog(fake.path, after_sequence=7, failed=never) as log:
        fake.reads = [record_of(6), record_of(7), record_of(8)]
        assert told(log.read()) == [8]


def test_what_was_overwritten_meanwhile_is_a_loss(fake: FakeLog) -> None:
    with KernelLog(fake.path, after_sequence=7, failed=never) as log:
        fake.reads = [record_of(50)]
        assert told(log.read()) == [Lost(42), 50]


def test_a_record_that_is_not_understood_is_reported_and_the_others_go_on(fake: FakeLog) -> None:
    errors: list[KernelFileError] = []
    with KernelLog(fake.path, failed=errors.append) as log:
        fake.reads = [b"nonsense\n", record_of(8)]
        assert told(log.read()) == [8]
    assert [error.path for error in errors] == [fake.path]


def test_another_error_names_the_path(fake: FakeLog) -> None:
    with KernelLog(fake.path, failed=never) as log:
        fake.reads = [OSError(5, "Input/output error")]
        with pytest.raises(ReadFailedError, match=fake.path):
            log.read()


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=f"{tmp_path}/kmsg"):
        KernelLog(str(tmp_path / "kmsg"), failed=never)


@pytest.mark.real
def test_the_kernels_own_log_has_what_was_written_to_it() -> None:
    is_writable = os.access(kmsg.PATH, os.R_OK | os.W_OK)
    require(None if is_writable else "needs a /dev/kmsg that can be read and written")
    text = f"cgwtest {os.getpid()} a\\b \u00e9"
    with KernelLog(failed=never) as log:
        Path(kmsg.PATH).write_text(f"<12>{text}\n")
        (record,) = [item for item in log.read() if isinstance(item, Record) and item.text == text]
        assert record.facility == 1
    with KernelLog(after_sequence=record.sequence - 1, failed=never) as log:
        again = log.read(sys.maxsize)
    assert record in again
    assert min(item.sequence for item in again if isinstance(item, Record)) >= record.sequence
