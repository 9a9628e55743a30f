r"""``/dev/kmsg``: the kernel's log, record by record.

::

    6,447,1365035785,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),...
    4,144,3300000,c;/the/rest/of/a/line/that/was/too/long/for/one/record
    6,126,252013,-,caller=T1;text with \x0a an escaped byte
     SUBSYSTEM=pci

Documentation/ABI/testing/dev-kmsg, since 3.5. One read(2) gives one record. ``c`` and ``+`` mark what
continues the record before it; ``caller=`` is there with CONFIG_PRINTK_CALLER, since 5.1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from cgwatch.errors import KernelFileError, from_os_error
from cgwatch.proc.reading import number, parsed, shown, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PATH = "/dev/kmsg"

_RECORD_BYTES = 16384
"""Twice the longest record: a shorter buffer than the record is answered with EINVAL."""
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")
_FACILITY_SHIFT = 3
_LEVELS = 7
_FIELDS = 4
_MICROSECONDS = 1_000_000


class Record(Struct, frozen=True):
    """One record of the kernel's log."""

    sequence: int
    """Counts from 0 at boot; a number that is missing is a record that was overwritten before it was read."""
    time_microseconds: int
    """Since boot, by the clock of the log: it stands still in suspend, and no time server corrects it."""
    level: int
    """0 (emergency) to 7 (debug)."""
    facility: int
    """0: the kernel itself. Whatever a process writes to the log has another one."""
    text: str
    """Without escapes; a byte that is no UTF-8 shows as a backslash and its number."""
    continues: bool = False
    """It goes on where the record of the same caller before it ended."""
    caller: str = ""
    """``T<pid>`` of the task or ``C<cpu>`` of the interrupt that said it; empty where it is not told."""
    dictionary: dict[str, str] = {}


class Lost(Struct, frozen=True):
    """Records that were overwritten before they could be read."""

    count: int | None
    """``None``: unknown, as none was read before."""


class KernelLog:
    """The log, read without waiting. ``fileno`` is for a selector: it becomes readable with each record.

    ``after_sequence``: begin with the oldest record after that one; ``None``: with the next to come. To know
    the number of that, all there is is read over: seeking to the end tells none.
    ``failed`` is called with the error of each record that cannot be understood; the others go on.
    Raises a ``KernelFileError`` with the path when the log cannot be opened: reading it takes CAP_SYSLOG
    where ``kernel.dmesg_restrict`` is set, and a container has none unless it is given the device.
    """

    def __init__(
        self,
        path: str = PATH,
        *,
        after_sequence: int | None = None,
        failed: Callable[[KernelFileError], None],
    ) -> None:
        self._path = path
        self._last = after_sequence
        self._failed = failed
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise from_os_error(path, error) from error
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        except OSError as error:
            os.close(self._descriptor)
            raise from_os_error(path, error) from error
        if after_sequence is None:
            self._skip_to_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def sequence(self) -> int | None:
        """The last record that was read or passed over; ``None``: there was none yet."""
        return self._last

    def fileno(self) -> int:
        """Return the descriptor, which belongs to this object."""
        return self._descriptor

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)

    def read(self, limit: int = 1000) -> list[Record | Lost]:
        """Return what is there, in order, and at most about ``limit`` of it; empty when nothing is.

        Raises a ``KernelFileError`` with the path when the log cannot be read any more.
        """
        found: list[Record | Lost] = []
        while len(found) < limit:
            try:
                data = os.read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise from_os_error(self._path, error) from error
                # Overrun: the next read gives the oldest record that is left, and its number tells the gap.
                if self._last is None:
                    found.append(Lost(None))
                continue
            if not data:  # a plain file, as tests have it
                break
            try:
                record = parsed(self._path, data, parse_record)
            except KernelFileError as error:
                self._failed(error)
                continue
            found += self._in_order(record)
        return found

    def _skip_to_end(self) -> None:
        last = b""
        while True:
            try:
                data = os.read(self._descriptor, _RECORD_BYTES)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue
                break  # at the end; if it is another error, the next read meets it and tells
            if not data:
                break
            last = data
        if last:
            with contextlib.suppress(KernelFileError):
                self._last = parsed(self._path, last, parse_record).sequence

    def _in_order(self, record: Record) -> list[Record | Lost]:
        """Return a record, after what is missing before it; nothing if it was read before."""
        last, self._last = self._last, record.sequence
        if last is None or record.sequence == last + 1:
            return [record]
        if record.sequence > last:
            return [Lost(record.sequence - last - 1), record]
        self._last = last
        return []


def parse_record(data: bytes) -> Record:
    """Read what one read(2) gives; ``ValueError`` when it is not a record."""
    prefix, separator, rest = data.partition(b";")
    fields = prefix.split(b",")
    if not separator or len(fields) < _FIELDS:
        raise ValueError(f"not a record of the kernel's log: {shown(data)}")
    priority = number(fields[0])
    line, *lines = rest.removesuffix(b"\n").split(b"\n")
    return Record(
        sequence=number(fields[1]),
        time_microseconds=number(fields[2]),
        level=priority & _LEVELS,
        facility=priority >> _FACILITY_SHIFT,
        text=_unescaped(line),
        continues=fields[3] in (b"c", b"+"),
        caller=next((_unescaped(field[7:]) for field in fields[4:] if field.startswith(b"caller=")), ""),
        dictionary=dict(_entry(entry) for entry in lines if entry.startswith(b" ")),
    )


def _entry(line: bytes) -> tuple[str, str]:
    key, _, value = line[1:].partition(b"=")
    return _unescaped(key), _unescaped(value)


def _unescaped(data: bytes) -> str:
    return text(_ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), data))


def epoch_seconds(time_microseconds: int, boot_time_seconds: float) -> float:
    """Return a record's time since the epoch.

    ``boot_time_seconds`` is best the difference of the wall clock and CLOCK_MONOTONIC *now*: the kernel's
    clock for logs stands still in suspend as that one does. It may be off by seconds after months, as no time
    server corrects it.
    """
    return boot_time_seconds + time_microseconds / _MICROSECONDS
