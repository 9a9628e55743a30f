"""The io controller (v2) and blkio (v1): block I/O by device.

v2: Documentation/admin-guide/cgroup-v2.rst, "IO".
v1: Documentation/admin-guide/cgroup-v1/blkio-controller.rst.
Devices are whole disks; the page cache's writeback is charged to its cgroup on v2 alone.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from msgspec import Struct, structs

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import FormatError, integer, limit, nested_keyed


class IoDevice(Struct, frozen=True, gc=False):
    """What one cgroup and all below it did on one block device."""

    major: int
    minor: int
    read_bytes_total: int | None = None
    written_bytes_total: int | None = None
    discarded_bytes_total: int | None = None
    reads_total: int | None = None
    writes_total: int | None = None
    discards_total: int | None = None
    bytes_by_operation: tuple[tuple[str, int], ...] = ()
    """v1: the kernel's own words (Read, Write, Sync, Async, Discard, Total) and bytes."""
    read_seconds: float | None = None
    """v1: time that the device took for reads, summed over requests; this and the next six are told by the
    schedulers of ``DETAILS_V1`` alone."""
    write_seconds: float | None = None
    service_seconds: float | None = None
    """Of all requests."""
    wait_seconds: float | None = None
    """Time that requests waited for the scheduler to hand them to the device."""
    reads_merged_total: int | None = None
    writes_merged_total: int | None = None
    queued: int | None = None
    """Requests that the scheduler holds at this moment."""
    cost_usage_seconds: float | None = None
    """v2: time of the device that the requests were charged, by the model of the io.cost controller."""
    cost_wait_seconds: float | None = None
    """Time waited for a budget; this and the next two are told with blk_cgroup.blkcg_debug_stats=1 alone."""
    cost_indebt_seconds: float | None = None
    cost_indelay_seconds: float | None = None


class IoLimit(Struct, frozen=True, gc=False):
    """Upper bounds on one block device, each second; ``math.inf``: none."""

    major: int
    minor: int
    read_bytes: int | float = math.inf
    written_bytes: int | float = math.inf
    reads: int | float = math.inf
    writes: int | float = math.inf


class IoStats(Struct, frozen=True, gc=False):
    """Block I/O and its bounds."""

    devices: tuple[IoDevice, ...] | None = None
    """Those that were used. On v1 none can also mean that nobody counts (see ``FILES_V1``)."""
    limits: tuple[IoLimit, ...] = ()
    weight: int | None = None
    """v2 ``io.weight`` (1 to 10000) or ``io.bfq.weight`` (1 to 1000), v1 ``blkio.bfq.weight`` (1 to 1000) or
    ``blkio.weight`` (10 to 1000): the default one, for devices without their own."""


def _device(text: str, raw: bytes) -> tuple[int, int]:
    major, separator, minor = text.partition(":")
    if separator and major.isdecimal() and minor.isdecimal() and len(text) <= _DEVICE_LENGTH:
        return int(major), int(minor)
    raise FormatError("a device as MAJOR:MINOR", raw)


_MICROSECONDS = 1_000_000
_NANOSECONDS = 1_000_000_000
_DEVICE_LENGTH = 21  # two numbers of 32 bits
_UNKNOWN = "(unknown)"
_UNKNOWN_BYTES = _UNKNOWN.encode()
"""What stands for the number of a disk that the block layer hides, such as one path of a multipath NVMe."""


def parse_io_stat(raw: bytes) -> tuple[IoDevice, ...]:
    """``io.stat``: a line for each device; keys that we do not know (``cost.vrate``) are skipped."""
    devices = []
    for text, values in nested_keyed(raw).items():
        if not values or text == _UNKNOWN:  # without values: only ever touched by its ancestors
            continue
        major, minor = _device(text, raw)
        device = IoDevice(
            major,
            minor,
            read_bytes_total=_value(values, "rbytes"),
            written_bytes_total=_value(values, "wbytes"),
            discarded_bytes_total=_value(values, "dbytes"),
            reads_total=_value(values, "rios"),
            writes_total=_value(values, "wios"),
            discards_total=_value(values, "dios"),
        )
        devices.append(_with_costs(device, values) if "cost.usage" in values else device)
    return tuple(devices)


def _with_costs(device: IoDevice, values: dict[str, str]) -> IoDevice:
    """Add what the io.cost controller charged (block/blk-iocost.c, since 5.10)."""
    return structs.replace(
        device,
        cost_usage_seconds=_microseconds(values, "cost.usage"),
        cost_wait_seconds=_microseconds(values, "cost.wait"),
        cost_indebt_seconds=_microseconds(values, "cost.indebt"),
        cost_indelay_seconds=_microseconds(values, "cost.indelay"),
    )


def _value(values: dict[str, str], key: str) -> int | None:
    text = values.get(key)
    return None if text is None else integer(text.encode())


def _microseconds(values: dict[str, str], key: str) -> float | None:
    value = _value(values, key)
    return None if value is None else value / _MICROSECONDS


def parse_io_max(raw: bytes) -> tuple[IoLimit, ...]:
    """``io.max``: a line for each device that has any bound."""
    limits = []
    for text, values in nested_keyed(raw).items():
        if text == _UNKNOWN:
            continue
        major, minor = _device(text, raw)
        bounds = [limit(values.get(key, "max").encode()) for key in ("rbps", "wbps", "riops", "wiops")]
        limits.append(IoLimit(major, minor, *bounds))
    return tuple(limits)


def parse_weight(raw: bytes) -> int:
    """``default WEIGHT``, then perhaps a line for each device; or, on v1, the weight alone."""
    words = raw.split()
    if words[:1] == [b"default"]:
        words = words[1:]
    if not words:
        raise FormatError("default WEIGHT", raw)
    return integer(words[0])


Operations = dict[tuple[int, int], dict[str, int]]


def parse_blkio(raw: bytes) -> Operations:
    """``blkio.*``: ``MAJOR:MINOR OPERATION VALUE`` lines and a last ``Total VALUE``, which is left out."""
    # Token by token, not line by line: with a few disks in use this is the dearest file of a v1 cgroup.
    words = raw.split()
    if words[-2:-1] == [b"Total"]:
        integer(words.pop())
        words.pop()
    if len(words) % 3 or (raw and raw.isspace()):
        raise FormatError("MAJOR:MINOR OPERATION VALUE", raw)
    found: Operations = {}
    for device, operation, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        if device == _UNKNOWN_BYTES:
            continue
        number = _numbers(device)
        name = _operation(operation)
        if number is None or name is None:
            raise FormatError("MAJOR:MINOR OPERATION VALUE", raw)
        found.setdefault(number, {})[name] = integer(value)
    return found


@functools.lru_cache(maxsize=1024)
def _numbers(device: bytes) -> tuple[int, int] | None:
    try:
        return _device(device.decode("ascii"), device)
    except ValueError:  # FormatError and UnicodeDecodeError
        return None


@functools.lru_cache(maxsize=64)
def _operation(word: bytes) -> str | None:
    return word.decode() if word.isalpha() and word.isascii() else None


Bounds = dict[tuple[int, int], int]


def parse_blkio_bound(raw: bytes) -> Bounds:
    """``blkio.throttle.*_device``: ``MAJOR:MINOR VALUE`` lines."""
    found: Bounds = {}
    for line in raw.splitlines():
        words = line.split()
        if len(words) != 2 or not words[0].isascii():  # noqa: PLR2004 - the two fields of the format
            raise FormatError("MAJOR:MINOR VALUE", raw)
        device = words[0].decode()
        if device != _UNKNOWN:
            found[_device(device, raw)] = integer(words[1])
    return found


_BFQ = "the BFQ I/O scheduler (CONFIG_BFQ_GROUP_IOSCHED)"
_THROTTLE = "block throttling (CONFIG_BLK_DEV_THROTTLING)"

FILES_V2 = (
    File("io.stat", parse_io_stat, pulse=True),
    File("io.max", parse_io_max, setting=True, on_root=False, needs=_THROTTLE),
    File(
        "io.weight",
        parse_weight,
        setting=True,
        on_root=False,
        needs="the io.cost controller (CONFIG_BLK_CGROUP_IOCOST)",
    ),
    File("io.bfq.weight", parse_weight, setting=True, on_root=False, needs=_BFQ),
)


def stats_v2(
    devices: tuple[IoDevice, ...] | None,
    limits: tuple[IoLimit, ...] | None,
    weight: int | None,
    bfq_weight: int | None,
) -> IoStats:
    """Make one object of the files in ``FILES_V2``."""
    return IoStats(devices, limits or (), weight if weight is not None else bfq_weight)


_V1: dict[str, Any] = {"controller": "blkio"}
_CFQ = "the CFQ I/O scheduler (before 5.0)"
_BYTES_AND_OPERATIONS = ("io_service_bytes", "io_serviced")
_DETAILS = ("io_service_time", "io_wait_time", "io_merged", "io_queued")


def _counters(prefix: str, needs: str, words: tuple[str, ...] = _BYTES_AND_OPERATIONS) -> tuple[File, ...]:
    """What one scheduler counts: with the descendants where it can."""
    return tuple(
        File(
            name + suffix,
            parse_blkio,
            needs=needs,
            instead_of=name + "_recursive" if not suffix else "",
            pulse=word == _BYTES_AND_OPERATIONS[0],
            **_V1,
        )
        for word in words
        for name in (f"{prefix}.{word}",)
        for suffix in ("_recursive", "")
    )


DETAILS_V1 = (
    *_counters("blkio.bfq", "the BFQ I/O scheduler with CONFIG_BFQ_CGROUP_DEBUG", _DETAILS),
    *_counters("blkio", _CFQ, _DETAILS),
)
"""Nanoseconds, merges and queues: few kernels have these files, so they are not looked for everywhere
(``controllers.wanted``)."""

FILES_V1 = (
    # Who counted: a device's first source in this order. The throttle layer sees every request, but since
    # 6.9 only after the first throttle rule was written on that device.
    *_counters("blkio.bfq", _BFQ),
    *_counters("blkio", _CFQ),
    *_counters("blkio.throttle", _THROTTLE),
    File("blkio.throttle.read_bps_device", parse_blkio_bound, setting=True, needs=_THROTTLE, **_V1),
    File("blkio.throttle.write_bps_device", parse_blkio_bound, setting=True, needs=_THROTTLE, **_V1),
    File("blkio.throttle.read_iops_device", parse_blkio_bound, setting=True, needs=_THROTTLE, **_V1),
    File("blkio.throttle.write_iops_device", parse_blkio_bound, setting=True, needs=_THROTTLE, **_V1),
    File("blkio.bfq.weight", parse_weight, setting=True, on_root=False, needs=_BFQ, **_V1),
    File("blkio.weight", parse_weight, setting=True, on_root=False, needs=_CFQ, **_V1),
    *DETAILS_V1,
)


def stats_v1(*values: Any) -> IoStats:  # noqa: ANN401 - twelve counters, bounds, weights, details, as in FILES_V1
    """Make one object of the files in ``FILES_V1``."""
    counters, bounds, weights, details = values[:12], values[12:16], values[16:18], values[18:]
    devices: dict[tuple[int, int], IoDevice] = {}
    for source in range(0, 12, 4):
        recursive_bytes, own_bytes, recursive_operations, own_operations = counters[source : source + 4]
        by_bytes: Operations = recursive_bytes or own_bytes or {}
        by_operations: Operations = recursive_operations or own_operations or {}
        for device in by_bytes.keys() | by_operations.keys():
            if device not in devices:
                devices[device] = _device_v1(device, by_bytes.get(device, {}), by_operations.get(device, {}))
    for device, more in _details_v1(details).items():
        devices[device] = structs.replace(devices.get(device, IoDevice(*device)), **more)
    has_counters = any(counter is not None for counter in (*counters, *details))
    return IoStats(
        devices=tuple(devices[device] for device in sorted(devices)) if has_counters else None,
        limits=_limits_v1(*bounds),
        weight=next((weight for weight in weights if weight is not None), None),
    )


def _device_v1(device: tuple[int, int], by_bytes: dict[str, int], operations: dict[str, int]) -> IoDevice:
    return IoDevice(
        *device,
        read_bytes_total=by_bytes.get("Read"),
        written_bytes_total=by_bytes.get("Write"),
        discarded_bytes_total=by_bytes.get("Discard"),
        reads_total=operations.get("Read"),
        writes_total=operations.get("Write"),
        discards_total=operations.get("Discard"),
        bytes_by_operation=tuple(by_bytes.items()),
    )


def _details_v1(details: tuple[Operations | None, ...]) -> dict[tuple[int, int], dict[str, float]]:
    """Return the fields of each device that any scheduler tells more of: the first one's."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for start in range(0, len(details), 2 * len(_DETAILS)):
        pairs = details[start : start + 2 * len(_DETAILS)]
        of_files = [recursive or own or {} for recursive, own in zip(pairs[::2], pairs[1::2], strict=True)]
        for device in set().union(*of_files) - found.keys():
            service, wait, merged, queued = (of_file.get(device, {}) for of_file in of_files)
            values = {
                "read_seconds": _seconds(service, "Read"),
                "write_seconds": _seconds(service, "Write"),
                "service_seconds": _seconds(service, "Total"),
                "wait_seconds": _seconds(wait, "Total"),
                "reads_merged_total": merged.get("Read"),
                "writes_merged_total": merged.get("Write"),
                "queued": queued.get("Total"),
            }
            found[device] = {name: value for name, value in values.items() if value is not None}
    return found


def _seconds(operations: dict[str, int], word: str) -> float | None:
    nanoseconds = operations.get(word)
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS


def _limits_v1(
    read_bytes: Bounds | None, written_bytes: Bounds | None, reads: Bounds | None, writes: Bounds | None
) -> tuple[IoLimit, ...]:
    bounds = [bound or {} for bound in (read_bytes, written_bytes, reads, writes)]
    devices = sorted(set().union(*bounds))
    return tuple(IoLimit(*device, *(bound.get(device, math.inf) for bound in bounds)) for device in devices)
