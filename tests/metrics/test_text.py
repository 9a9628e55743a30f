from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.text import escape, label, label_name
from tests.golden.reading import restored, series_of

# What escaping could get wrong comes together more often than by chance.
TRICKY = st.text(st.sampled_from('\\"\nnx\r\t,={} \ufffd\udcff\ud800dcf8\u2028\x00é'))
ANY_TEXT = st.one_of(st.text(st.characters(exclude_categories=())), TRICKY)


def read_back(value: str, form: Format) -> str:
    page = f"# TYPE x gauge\nx{{{label('a', value)}}} 1\n"
    page.encode()  # whatever the text, the page can be sent
    ((_, labels),) = series_of(page + ("# EOF\n" if form is Format.OPENMETRICS else ""), form)
    return dict(labels)["a"]


@pytest.mark.parametrize("form", Format)
@given(value=ANY_TEXT)
@example(value='\\n\n\\"\\\\')
@example(value='x"} 2\nx{a="')
@example(value='\\\n"é\udcff' * 12_000)
def test_any_text_is_read_back_as_it_was(form: Format, value: str) -> None:
    assert restored(read_back(value, form)) == value


@pytest.mark.parametrize("form", Format)
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
def test_valid_text_is_shown_unchanged(form: Format, value: str) -> None:
    assert read_back(value, form) == value


@given(values=st.sets(ANY_TEXT, min_size=2, max_size=20))
@example(values={chr(0xDCFF), "\ufffddcff", "\\xff", "\ufffd"})
def test_two_texts_never_become_one(values: set[str]) -> None:
    assert len({escape(value) for value in values}) == len(values)


def test_bytes_that_are_no_utf_8_show_their_number() -> None:
    assert escape(b"/docker/\xff".decode("utf-8", "surrogateescape")) == "/docker/\ufffddcff"


@given(key=ANY_TEXT)
def test_any_key_makes_a_name_that_labels_may_have(key: str) -> None:
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", f"container_label_{label_name(key)}")


def test_a_key_keeps_letters_digits_and_underscores() -> None:
    assert label_name("com.docker.compose/Service-2_é") == "com_docker_compose_Service_2__"
