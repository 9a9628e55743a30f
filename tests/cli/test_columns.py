from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cli.columns import Column, aligned

cells = st.text("abc-", min_size=1, max_size=30)


def lines(columns: list[Column], rows: list[tuple[str, ...]], width: int | None = None) -> list[str]:
    return list(aligned(columns, rows, width))


def test_numbers_stand_under_one_another_and_texts_begin_together() -> None:
    columns = [Column("NAME"), Column("N", right=True), Column("WHY")]
    assert lines(columns, [("web", "5", "x"), ("longer", "500", "y")]) == [
        "NAME      N  WHY",
        "web       5  x",
        "longer  500  y",
    ]


def test_the_longest_gives_way_first_and_short_cells_stay_whole() -> None:
    columns = [Column("NAME", least=4), Column("PATH", least=6), Column("N")]
    assert lines(columns, [("web", "/a/very/long/path/indeed", "1")], 20) == [
        "NAME  PATH         N",
        "web   /a/ve..deed  1",
    ]


def test_what_is_optional_is_left_out_where_it_does_not_fit_the_last_first() -> None:
    columns = [Column("A"), Column("BBBB", optional=True), Column("CCCC", optional=True)]
    assert lines(columns, [("x", "1", "2")], 9) == ["A  BBBB", "x  1"]
    assert lines(columns, [("x", "1", "2")], 3) == ["A", "x"]


def test_an_optional_column_of_which_nothing_is_known_is_left_out() -> None:
    columns = [Column("A"), Column("B", optional=True)]
    assert lines(columns, [("x", "--"), ("y", "")]) == ["A", "x", "y"]


@given(st.lists(st.tuples(cells, cells, cells), max_size=5), st.integers(24, 100))
def test_lines_fit_as_soon_as_what_may_be_cut_or_left_out_leaves_enough(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    columns = [Column("NAME", least=8), Column("PATH", least=8), Column("NOTE", optional=True)]
    assert all(len(line) <= width for line in lines(columns, [*rows], width))
