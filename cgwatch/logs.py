"""Logging to one stream, one line for each event, as logfmt or JSON.

Names and values of ``extra`` become keys of the line::

    log.warning("a file is malformed", extra={"path": "/sys/fs/cgroup/memory.stat"})
    ts=2026-11-22T09:00:00.123Z level=warning logger=cgwatch.sampling msg="a file is malformed" path=/sys/...
"""

from __future__ import annotations

import json
import logging
import math
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from cgwatch.units import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cgwatch.settings import LogFormat, LogLevel

# What logging itself puts on a record; everything else came as ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_BARE = re.compile(r'[^\s"=\\]+')
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_.-]+")


class LineFormatter(logging.Formatter):
    """One record to one line; tracebacks only where ``tracebacks`` asks for them."""

    def __init__(self, line_format: LogFormat, *, tracebacks: bool) -> None:
        super().__init__()
        self._write = _logfmt if line_format == "logfmt" else _json
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields = self._fields(record)
        for name, value in vars(record).items():
            if name not in _OWN:
                # A line has each key once; ours keep their names.
                fields[f"{name}_" if name in fields else name] = value
        return self._write(fields)

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
            if self._tracebacks:
                fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info and self._tracebacks:
            fields["stack"] = record.stack_info
        return fields


def _logfmt(fields: Mapping[str, object]) -> str:
    pairs = ((_NOT_IN_KEY.sub("_", name) or "_", _literal(value), value) for name, value in fields.items())
    return " ".join(f"{name}={literal or _bare_or_quoted(_text(value))}" for name, literal, value in pairs)


def _bare_or_quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) and text.isprintable() else quoted(text)


def _json(fields: Mapping[str, object]) -> str:
    pairs = ((quoted(_text(name)), _literal(value), value) for name, value in fields.items())
    return f"{{{', '.join(f'{name}: {literal or quoted(_text(value))}' for name, literal, value in pairs)}}}"


def _literal(value: object) -> str | None:
    """Return what JSON writes without quotes, which infinity and "not a number" are not."""
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return None


def _text(value: object) -> str:
    # A lone surrogate (an undecodable byte of a path) is no Unicode; strict readers would refuse the line.
    return str(value).encode("utf-8", "backslashreplace").decode()


@contextmanager
def configured(level: LogLevel, line_format: LogFormat, stream: TextIO) -> Iterator[None]:
    """Log to ``stream`` as :func:`configure` does, and put back what was there before."""
    root = logging.getLogger()
    before = root.level
    handler = configure(level, line_format, stream)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def configure(level: LogLevel, line_format: LogFormat, stream: TextIO) -> logging.Handler:
    """Send every logger's records of ``level`` (``info``) and above to ``stream``; return the handler.

    Handlers of others stay. Errors come as one key, ``error``; tracebacks only where ``level`` is ``debug``.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(line_format, tracebacks=level == "debug"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Libraries tell of each connection they make; that is news to their authors alone.
    for library in ("docker", "urllib3", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)
    return handler
