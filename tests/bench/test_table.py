"""How the bench's rows are shown."""

from __future__ import annotations

from bench.table import Row, markdown, table

SAMPLING = Row("sampling", 100, 1.234, "times", at_most=1.6, layout="v1")
SLOWER = Row("sampling", 500, 2.0, "times", at_most=1.6, layout="v1")
ON_V2 = Row("sampling", 100, 1.5, "times", at_most=1.6, layout="v2")
FASTER = Row("writing", 100, 9.0, "times faster", at_least=10, layout="v1")
DETAIL = Row("files", 100, 39.0, "/cgroup", layout="v1")
MEMORY = Row("memory", 500, 1234.5, "KiB", layout="v1", headline=True)


def test_an_aim_is_met_on_the_right_side_of_it() -> None:
    assert SAMPLING.passed is True
    assert SLOWER.passed is False
    assert FASTER.passed is False
    assert DETAIL.passed is None


def test_the_markdown_table_has_a_column_for_each_kernel_and_number_of_cgroups() -> None:
    lines = markdown([SAMPLING, SLOWER, ON_V2, FASTER, DETAIL, MEMORY]).splitlines()
    assert lines == [
        "|  | v1, 100 | v1, 500 | v2, 100 | aim |",
        "| --- | --- | --- | --- | --- |",
        "| sampling (times) | 1.23 | **2** | 1.5 | at most 1.6 |",
        "| writing (times faster) | **9** |  |  | at least 10 |",
        "| memory (KiB) |  | 1,234 |  |  |",
    ]


def test_the_plain_table_has_every_row_and_says_which_aims_were_missed() -> None:
    lines = table([SAMPLING, SLOWER, DETAIL]).splitlines()
    assert [line.split()[-1] for line in lines[2:4]] == ["pass", "MISS"]
    assert lines[4].split() == ["files", "v1", "100", "39", "/cgroup"]
