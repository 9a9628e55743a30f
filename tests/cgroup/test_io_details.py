"""What few kernels tell of block I/O: times, merges, queues, and the model of the io.cost controller."""

from __future__ import annotations

from typing import Any

import pytest

from cgwatch.cgroup import io
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.io import IoDevice

OPERATIONS = ("Read", "Write", "Sync", "Async", "Discard", "Total")


def blkio(**values: int) -> bytes:
    lines = [f"8:0 {name} {values.get(name, 0)}\n" for name in OPERATIONS]
    return "".join([*lines, f"Total {values.get('Total', 0)}\n"]).encode()


def stats(texts: dict[str, bytes]) -> io.IoStats:
    """Make stats of some files of v1, by name."""
    values: list[Any] = [file.parse(texts[file.name]) if file.name in texts else None for file in io.FILES_V1]
    assert texts.keys() <= {file.name for file in io.FILES_V1}
    return io.stats_v1(*values)


def scheduler(prefix: str, factor: int = 1, suffix: str = "_recursive") -> dict[str, bytes]:
    """What a scheduler tells, all of it multiplied."""
    return {
        f"{prefix}.io_service_time{suffix}": blkio(
            Read=1_500_000_000 * factor, Write=500_000_000 * factor, Total=2_000_000_000 * factor
        ),
        f"{prefix}.io_wait_time{suffix}": blkio(Total=250_000_000 * factor),
        f"{prefix}.io_merged{suffix}": blkio(Read=3 * factor, Write=4 * factor, Total=7 * factor),
        f"{prefix}.io_queued{suffix}": blkio(Total=5 * factor),
    }


TOLD = IoDevice(
    8,
    0,
    read_seconds=1.5,
    write_seconds=0.5,
    service_seconds=2.0,
    wait_seconds=0.25,
    reads_merged_total=3,
    writes_merged_total=4,
    queued=5,
)


@pytest.mark.parametrize("prefix", ["blkio.bfq", "blkio"])
@pytest.mark.parametrize("suffix", ["_recursive", ""])
def test_a_scheduler_of_v1_tells_seconds_merges_and_what_is_queued(prefix: str, suffix: str) -> None:
    assert stats(scheduler(prefix, suffix=suffix)).devices == (TOLD,)


def test_the_scheduler_that_serves_a_device_tells_of_it() -> None:
    assert stats(scheduler("blkio", 9) | scheduler("blkio.bfq")).devices == (TOLD,)


def test_the_subtree_comes_before_the_cgroup_alone() -> None:
    assert stats(scheduler("blkio.bfq", 9, "") | scheduler("blkio.bfq")).devices == (TOLD,)


def test_bytes_and_times_are_of_one_device() -> None:
    (device,) = (
        stats(
            scheduler("blkio.bfq") | {"blkio.bfq.io_service_bytes_recursive": blkio(Read=4096, Total=4096)}
        ).devices
        or ()
    )

    assert (device.read_bytes_total, device.written_bytes_total, device.read_seconds) == (4096, 0, 1.5)


def test_without_those_files_there_are_no_times() -> None:
    (device,) = stats({"blkio.throttle.io_service_bytes_recursive": blkio(Read=1)}).devices or ()

    assert (device.read_seconds, device.queued, device.reads_merged_total) == (None, None, None)


# Read on Linux 6.1, with io.cost.qos enable=1 and blk_cgroup.blkcg_debug_stats=1.
ROOT = (
    b"254:0 rbytes=2526208 wbytes=21891072 rios=193 wios=227 dbytes=67109888 dios=2"
    b" cost.vrate=100.00 cost.usage=73735 cost.wait=0 cost.indebt=0 cost.indelay=0\n"
)


def test_the_cost_of_io_is_in_seconds() -> None:
    (device,) = io.parse_io_stat(ROOT.replace(b"cost.wait=0", b"cost.wait=2500000"))

    assert (device.cost_usage_seconds, device.cost_wait_seconds) == (0.073735, 2.5)
    assert (device.cost_indebt_seconds, device.cost_indelay_seconds) == (0, 0)
    assert device.read_bytes_total == 2526208


def test_without_debug_statistics_there_is_the_charge_alone() -> None:
    (device,) = io.parse_io_stat(b"8:0 rbytes=1 cost.usage=1000000\n")

    assert (device.cost_usage_seconds, device.cost_wait_seconds) == (1.0, None)


def test_a_cost_that_is_no_number_is_an_error() -> None:
    with pytest.raises(FormatError):
        io.parse_io_stat(b"8:0 rbytes=1 cost.usage=x\n")
