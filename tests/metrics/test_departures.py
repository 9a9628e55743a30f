from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from cgwatch.metrics.departures import DEPARTURES, Departure
from cgwatch.metrics.strict import REPLACED
from tests.compare.differences import KNOWN
from tests.compare.known import Known
from tests.compare.verdict import What
from tests.metrics.conformance import CONTAINER_ROWS, LEFT_OUT, NODE_ROWS, Row
from tests.readme import README, written

CADVISOR = {
    *(row.name for row in CONTAINER_ROWS if not row.own),
    *(row.name for row in NODE_ROWS if not row.own),
    *LEFT_OUT,
}
SPECIFIC = [row for row in DEPARTURES if row.metrics[0] != "container_*"]


def named(rows: list[Departure]) -> set[str]:
    """Names of cAdvisor's that these rows are about."""
    return {name for row in rows for glob in row.metrics for name in CADVISOR if fnmatchcase(name, glob)}


def test_the_readme_has_the_table() -> None:
    text = README.read_text()
    assert text == written(text), "python -m tests.readme writes it anew"


@pytest.mark.parametrize("row", DEPARTURES, ids=lambda row: f"{row.metrics[0]} {row.cadvisor[:30]}")
def test_a_departure_names_metrics_of_cadvisor_and_says_all_that_the_table_has(row: Departure) -> None:
    for glob in row.metrics:
        assert any(fnmatchcase(name, glob) for name in CADVISOR), glob
    assert all(row.cells())
    assert not any("|" in cell or "\n" in cell for cell in row.cells())
    assert row.restored or row.note, "why is it not to be had back?"


def test_what_is_said_to_be_restored_is_replaced() -> None:
    assert named([row for row in SPECIFIC if row.restored]) <= REPLACED


def test_what_is_replaced_is_said_to_be_restored_or_is_0_where_the_kernel_does_not_say() -> None:
    zeros = {
        *("container_cpu_user_seconds_total", "container_cpu_system_seconds_total"),
        *(
            f"container_memory_{what}"
            for what in ("usage_bytes", "working_set_bytes", "rss", "cache", "swap")
        ),
        *(f"container_memory_total_{what}_file_bytes" for what in ("active", "inactive")),
        *(f"container_memory_workingset_refault_{what}_total" for what in ("anon", "file")),
        *("container_memory_mapped_file", "container_spec_memory_swap_limit_bytes"),
    }
    assert named([row for row in SPECIFIC if row.restored]) | zeros == REPLACED


@pytest.mark.parametrize("row", [row for row in CONTAINER_ROWS if row.departs], ids=lambda row: row.name)
def test_what_the_conformance_tables_know_of_is_in_the_table(row: Row) -> None:
    assert row.name in named(SPECIFIC)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.families} {known.what}")
def test_what_the_comparison_with_a_real_cadvisor_explains_is_in_the_table(known: Known) -> None:
    about = {name for name in CADVISOR if fnmatchcase(name, known.families)}
    assert not about or known.what is What.ONLY_CGWATCH or about & named(SPECIFIC)
    assert not known.restored or about <= REPLACED
