from __future__ import annotations

import io
import json
import logging
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch import logs
from cgwatch.logs import LineFormatter

if TYPE_CHECKING:
    from cgwatch.settings import LogFormat, LogLevel

CREATED = 1795338000.1239  # 2026-11-22T09:00:00.123Z


def record(
    message: str = "sampled", *, error: BaseException | None = None, **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord(
        "cgwatch.sampling",
        logging.INFO,
        "sampling.py",
        1,
        message,
        (),
        (type(error), error, error.__traceback__) if error else None,
    )
    made.created = CREATED
    vars(made).update(extra)
    return made


def logfmt(made: logging.LogRecord, *, tracebacks: bool = False) -> str:
    return LineFormatter("logfmt", tracebacks=tracebacks).format(made)


def as_json(made: logging.LogRecord, *, tracebacks: bool = False) -> dict[str, object]:
    line: dict[str, object] = json.loads(
        LineFormatter("json", tracebacks=tracebacks).format(made), parse_constant=pytest.fail
    )
    return line


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:  # as it comes out of an except clause: with its traceback
        return caught


def parsed(line: str) -> dict[str, str]:
    """Read logfmt as its readers do: bare words, or JSON strings."""
    pair = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]+)(?: |$)')
    found: dict[str, str] = {}
    position = 0
    while position < len(line):
        match = pair.match(line, position)
        assert match, line[position:]
        value = match[2]
        found[match[1]] = json.loads(value) if value.startswith('"') else value
        position = match.end()
    return found


def test_a_line_has_time_level_logger_message_and_the_extra_fields() -> None:
    assert logfmt(record("one tick", path="/docker/ab", count=3)) == (
        'ts=2026-11-22T09:00:00.123Z level=info logger=cgwatch.sampling msg="one tick"'
        " path=/docker/ab count=3"
    )


def test_json_has_the_same_fields_with_their_types() -> None:
    assert as_json(record("one tick", path="/docker/ab", count=3, ratio=0.5, ok=True, none=None)) == {
        "ts": "2026-11-22T09:00:00.123Z",
        "level": "info",
        "logger": "cgwatch.sampling",
        "msg": "one tick",
        "path": "/docker/ab",
        "count": 3,
        "ratio": 0.5,
        "ok": True,
        "none": None,
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("C:\\x", r'"C:\\x"'),
        ("two\nlines\r\t", r'"two\nlines\r\t"'),
        ("\x1b[31m\x7f\x85\u2028", r'"\u001b[31m\u007f\u0085\u2028"'),
        ("byte \udcff", r'"byte \\udcff"'),
        ("été", "été"),
        (None, "null"),
        (True, "true"),
        (12, "12"),
        (0.25, "0.25"),
        (math.inf, "inf"),
        (["a", 1], "\"['a', 1]\""),
    ],
)
def test_a_value_is_quoted_where_it_has_to_be(value: object, written: str) -> None:
    assert logfmt(record(key=value)).endswith(f" key={written}")


def test_what_json_cannot_say_as_a_number_is_text() -> None:
    assert as_json(record(limit=math.inf, ratio=math.nan))["limit"] == "inf"


def test_a_key_that_logfmt_cannot_write_is_made_writable() -> None:
    extra: dict[str, Any] = {"a b=c": 1, "": 2}

    assert logfmt(record(**extra)).endswith(" a_b_c=1 _=2")


def test_an_extra_field_never_hides_ours() -> None:
    line = as_json(record("ours", level="theirs", ts=1))

    assert (line["level"], line["level_"]) == ("info", "theirs")
    assert line["ts_"] == 1


def test_an_error_is_one_key_without_its_traceback() -> None:
    made = record("failed", error=raised(ValueError("two\nlines")))

    assert logfmt(made).endswith(r' msg=failed error="ValueError: two\nlines"')


def test_a_traceback_is_written_on_the_same_line_where_it_is_asked_for() -> None:
    line = logfmt(record("failed", error=raised(ValueError("x"))), tracebacks=True)

    assert "\n" not in line
    assert parsed(line)["traceback"].startswith("Traceback (most recent call last):\n")
    assert "raise error" in parsed(line)["traceback"]


any_text = st.text(st.characters(codec=None))


@given(any_text, any_text)
def test_any_text_is_one_line_that_reads_back(message: str, value: str) -> None:
    def readable(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    made = record(message, key=value)
    line = logfmt(made)

    assert line.isprintable()
    assert parsed(line)["msg"] == readable(message)
    assert parsed(line)["key"] == readable(value)
    assert as_json(made)["key"] == readable(value)
    assert line.encode()


@pytest.mark.parametrize(
    ("level", "line_format", "lines"),
    [("warning", "logfmt", 1), ("info", "json", 2), ("debug", "logfmt", 3)],
)
def test_the_level_decides_what_is_written_and_leaving_puts_back_what_was(
    level: LogLevel, line_format: LogFormat, lines: int
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    stream = io.StringIO()

    with logs.configured(level, line_format, stream):
        log = logging.getLogger("cgwatch.test")
        log.debug("one")
        log.info("two")
        log.warning("three", extra={"key": "value"})

    assert len(stream.getvalue().splitlines()) == lines
    assert (root.level, list(root.handlers)) == before


@pytest.mark.parametrize(("level", "tracebacks"), [("info", 0), ("debug", 1)])
def test_tracebacks_belong_to_the_debug_level(level: LogLevel, tracebacks: int) -> None:
    stream = io.StringIO()

    with logs.configured(level, "logfmt", stream):
        logging.getLogger("cgwatch.test").error("failed", exc_info=raised(ValueError("x")))

    assert stream.getvalue().count("traceback=") == tracebacks
    assert 'error="ValueError: x"' in stream.getvalue()
