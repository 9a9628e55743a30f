from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import edac
from cgwatch.proc.edac import Dimms
from cgwatch.proc.reading import parsed


def write_dimm(sys: Path, controller: str, dimm: str, kind: str, size: str) -> Path:
    directory = sys / "devices/system/edac/mc" / controller / dimm
    directory.mkdir(parents=True)
    (directory / "dimm_mem_type").write_text(kind + "\n")
    (directory / "size").write_text(size + "\n")
    return directory


def test_modules_are_added_up_by_type_over_all_controllers(tmp_path: Path) -> None:
    write_dimm(tmp_path, "mc0", "dimm0", "Unbuffered-DDR4", "16384")
    write_dimm(tmp_path, "mc0", "dimm3", "Unbuffered-DDR4", "16384")
    write_dimm(tmp_path, "mc1", "dimm0", "Unbuffered-DDR4", "32768")
    write_dimm(tmp_path, "mc1", "dimm1", "Non-volatile-RAM", "129024")
    write_dimm(tmp_path, "mc1", "power", "no", "module")
    assert edac.read_dimms(str(tmp_path)) == {
        "Unbuffered-DDR4": Dimms(count=3, capacity_bytes=64 << 30),
        "Non-volatile-RAM": Dimms(count=1, capacity_bytes=126 << 30),
    }


def test_a_machine_without_a_driver_has_none(tmp_path: Path) -> None:
    assert edac.read_dimms(str(tmp_path)) == {}


def test_a_size_that_is_no_number_is_an_error_with_the_path(tmp_path: Path) -> None:
    write_dimm(tmp_path, "mc0", "dimm0", "Unbuffered-DDR4", "lots")
    with pytest.raises(MalformedFileError, match="/mc0/dimm0/size: 'lots' is not a number"):
        edac.read_dimms(str(tmp_path))


def test_a_missing_size_is_named(tmp_path: Path) -> None:
    (write_dimm(tmp_path, "mc0", "dimm0", "Unbuffered-DDR4", "1") / "size").unlink()
    with pytest.raises(FileMissingError, match="/mc0/dimm0/size"):
        edac.read_dimms(str(tmp_path))


@given(st.binary())
def test_any_size_is_a_number_or_an_error_with_the_path(data: bytes) -> None:
    try:
        size_bytes = parsed("/sys/size", data, edac.parse_size)
    except MalformedFileError as error:
        assert error.path == "/sys/size"  # noqa: PT017 - not raising is as good
    else:
        assert size_bytes % (1 << 20) == 0
