from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgwatch.errors import ConfigError
from cgwatch.placed_yaml import MAX_BYTES, Placed, read_yaml


def test_every_value_knows_the_line_of_its_key() -> None:
    document = read_yaml(b"# comment\na: 1\nb:\n  - x\n  - c:\n      2.5\n", "f.yaml")

    assert document.plain() == {"a": 1, "b": ["x", {"c": 2.5}]}
    assert isinstance(document.value, dict)
    assert document.value["b"].line == 3
    items = document.value["b"].value
    assert isinstance(items, list)
    assert items[0] == Placed(4, "x", "x")
    assert items[1].value == {"c": Placed(5, "2.5", 2.5)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None),
        ("", None),
        ("True", True),
        ("false", False),
        ("-12", -12),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'5'", "5"),
        ("'true'", "true"),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("2026-01-01", "2026-01-01"),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        ("9" * 5000, "9" * 5000),
        ("=", "="),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}\n".encode(), "f.yaml").plain()

    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize("raw", [b"", b"---\n", b"# nothing\n", b"\xef\xbb\xbf"])
def test_an_empty_document_has_no_value(raw: bytes) -> None:
    assert read_yaml(raw, "f.yaml").value is None


@pytest.mark.parametrize(
    ("raw", "place", "problem"),
    [
        (b"a: &x 1\nb: *x\n", "f.yaml:1", "anchors"),
        (b"b: 1\nc: *x\n", "f.yaml:2", "aliases"),
        (b"a: !!python/object/apply:os.system [id]\n", "f.yaml:1", "tag"),
        (b"a: !x 1\n", "f.yaml:1", "tag"),
        (b"a: 1\nb: 2\na: 3\n", "f.yaml:3", '"a" is written twice, first on line 1'),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2", "second document"),
        (b"\n" + b"[" * 100_000, "f.yaml:2", "nested"),
        (b"- " * 100 + b"x", "f.yaml:1", "nested"),
        (b"? [a]\n: 1\n", "f.yaml:1", "plain word"),
        (b"a: 1\n\xff\n", "f.yaml:2", "UTF-8"),
        (b"a: 1\nb: \x01\n", "f.yaml:2", "control character"),
        (b"a: 1\n\tb: 2\n", "f.yaml:2", "not YAML"),
        (b"a: b: c\n", "f.yaml:1", "not YAML"),
        (b'a: "\\UFFFFFFFF"\n', "f.yaml:1", "out of range"),
        (b"#" * (MAX_BYTES + 1), "f.yaml", "larger than 1024 KiB"),
    ],
)
def test_what_is_not_taken_is_an_error_at_its_line(raw: bytes, place: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        read_yaml(raw, "f.yaml")

    assert caught.value.place == place


@given(st.binary() | st.text("ab:-?[]{},&*!|>'\"%@#~\n \t\\U0_.=<").map(str.encode))
@example(b"%YAML 1." + b"9" * 5000 + b"\n--- a")
@example(b"&a [*a]")
def test_any_bytes_give_a_document_or_an_error_that_names_the_file(raw: bytes) -> None:
    try:
        document = read_yaml(raw, "f.yaml")
    except ConfigError as error:
        named = error.place.startswith("f.yaml")
    else:
        named = document.line >= 1

    assert named
