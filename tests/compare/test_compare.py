from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from cgwatch.metrics.departures import DEPARTURES
from tests.compare.differences import KNOWN
from tests.compare.known import EVERYTHING, Known, Reasons, Round, reasons
from tests.compare.observed import Observed, add_page, nothing_yet
from tests.compare.report import differences, stale, table, unexplained
from tests.compare.verdict import Finding, Row, Tolerance, What, compare, compare_identities

CGROUP = "/docker/1"
NAME = "till"
NOBODY = (Tolerance("nothing", 0, 0, ""),)


def observed(
    kind: str, points: dict[float, float], *, name: str = "container_x", labels: str = ""
) -> Observed:
    """What an exporter said of one series of one container, at these moments."""
    seen = nothing_yet()
    for moment, value in points.items():
        text = f'# TYPE {name} {kind}\n{name}{{id="{CGROUP}"{labels}}} {value} {int(moment * 1000)}\n'
        add_page(seen, text, 0, {CGROUP: NAME})
    return seen


def one_row(theirs: Observed, ours: Observed, *tolerances: Tolerance) -> Row:
    (row,) = compare(theirs, ours, tolerances or NOBODY, skew_seconds=0.5)
    return row


@pytest.mark.parametrize("value", [20, 25, 30])
def test_a_counter_that_lies_between_two_of_cadvisors_is_the_same(value: float) -> None:
    row = one_row(observed("counter", {1: 10, 2: 20, 4: 30}), observed("counter", {3: value}))
    assert (row.compared, row.same, row.findings) == (1, 1, ())


@pytest.mark.parametrize("value", [19, 31])
def test_a_counter_that_lies_elsewhere_is_another_one(value: float) -> None:
    row = one_row(observed("counter", {1: 10, 2: 20, 4: 30}), observed("counter", {3: value}))
    assert [finding.what for finding in row.findings] == [What.VALUE]
    assert row.findings[0].detail == f"{{}} cAdvisor 20..30, cgwatch {value} (1 of 1 values)"


def test_one_value_out_of_place_is_enough_for_a_counter() -> None:
    theirs = observed("counter", {moment: moment * 10 for moment in range(1, 8)})
    ours = observed("counter", {2: 20, 3: 30, 4: 80, 5: 50})
    assert [finding.what for finding in one_row(theirs, ours).findings] == [What.VALUE]


def test_values_sampled_at_almost_the_same_moment_say_nothing_of_each_other() -> None:
    # At 1.4 either of the two may have read first, so only the value at 3 bounds it from above.
    row = one_row(observed("counter", {0.0: 5, 1.0: 10, 3.0: 30}), observed("counter", {1.4: 9}))
    assert row.findings == ()


def test_a_gauge_may_peak_between_two_values_of_cadvisor_but_not_most_of_the_time() -> None:
    theirs = observed("gauge", dict.fromkeys(range(10), 5.0))
    assert one_row(theirs, observed("gauge", {2: 5, 3: 9, 4: 5})).findings == ()
    assert one_row(theirs, observed("gauge", {2: 9, 3: 9, 4: 5})).findings[0].theirs == (5, 5)


def test_a_value_may_be_off_by_its_tolerance() -> None:
    theirs, ours = observed("gauge", {1: 100, 3: 100}), observed("gauge", {2: 103})
    assert one_row(theirs, ours, Tolerance("container_*", 1, 0.02, "")).findings == ()
    assert one_row(theirs, ours, Tolerance("container_*", 1, 0.01, "")).findings != ()
    assert one_row(theirs, ours, Tolerance("machine_*", 9, 9, "")).findings != ()


def test_a_setting_is_equal_or_different() -> None:
    seen = [nothing_yet(), nothing_yet(), nothing_yet()]
    for one, value in zip(seen, (7, 7, 8), strict=True):
        add_page(one, f'# TYPE container_x gauge\ncontainer_x{{id="{CGROUP}"}} {value}\n', 1, {CGROUP: NAME})
    assert one_row(seen[0], seen[1]).findings == ()
    assert one_row(seen[0], seen[2]).findings[0].detail == "{} cAdvisor 7, cgwatch 8"


def test_a_series_that_cadvisor_did_not_sample_around_ours_is_a_difference() -> None:
    row = one_row(observed("gauge", {1: 5, 2: 5}), observed("gauge", {3: 5}))
    assert "not sampled often enough" in row.findings[0].detail


def test_families_types_labels_and_series_of_one_side_alone_are_differences() -> None:
    theirs = observed("counter", {1: 0, 3: 0}, labels=',device="a"')
    ours = observed("gauge", {2: 0}, labels=',interface="a"')
    assert {finding.what for finding in one_row(theirs, ours).findings} == {
        *(What.TYPE, What.LABELS, What.MISSING, What.EXTRA)
    }
    other = observed("gauge", {2: 0}, name="container_y")
    found = [finding for row in compare(theirs, other, NOBODY, skew_seconds=0.5) for finding in row.findings]
    assert [(finding.family, finding.what) for finding in found] == [
        ("container_x", What.ONLY_CADVISOR),
        ("container_y", What.ONLY_CGWATCH),
    ]


def test_labels_that_say_whose_a_series_is_are_compared_by_themselves() -> None:
    theirs = observed("gauge", {1: 5, 3: 5}, labels=',name="till",container_label_a="b",image=""')
    ours = observed("gauge", {2: 5}, labels=',name="till"')
    assert one_row(theirs, ours).findings == ()
    (finding,) = compare_identities(theirs, ours)
    assert finding.detail == 'cAdvisor {container_label_a="b",name="till"}, cgwatch {name="till"}'


def test_a_counter_keeps_its_name_and_other_containers_and_exporters_are_passed_over() -> None:
    seen = nothing_yet()
    page = (
        "# TYPE container_memory_failcnt counter\n"
        f'container_memory_failcnt{{id="{CGROUP}"}} 3 1500\n'
        'container_memory_failcnt{id="/other"} 4 1500\n'
        "# TYPE process_cpu_seconds_total counter\n"
        "process_cpu_seconds_total 9\n"
        "# TYPE machine_cpu_cores gauge\n"
        'machine_cpu_cores{boot_id="b",machine_id=""} 2\n'
    )
    add_page(seen, page, 7, {CGROUP: NAME})
    assert {(series.family, series.whose): points for series, points in seen.points.items()} == {
        ("container_memory_failcnt", NAME): {1.5: 3},
        ("machine_cpu_cores", ""): {7: 2},
    }
    assert {(series.family, *series.labels) for series in seen.timeless} == {
        ("machine_cpu_cores", ("boot_id", "b"))
    }


def finding(
    detail: str = '{device="a"} 1',
    theirs: tuple[float, float] = (0, 0),
    ours: float | None = None,
    family: str = "container_fs_x",
) -> Finding:
    return Finding(family, What.MISSING, NAME, detail, theirs, ours)


@pytest.mark.parametrize(
    ("known", "explains"),
    [
        (Known("container_fs_*", What.MISSING, ""), True),
        (Known("container_cpu_*", What.MISSING, ""), False),
        (Known("container_fs_*", What.EXTRA, ""), False),
        (Known("container_fs_*", What.MISSING, "", ("/", "till")), True),
        (Known("container_fs_*", What.MISSING, "", ("/",)), False),
        (Known("container_fs_*", What.MISSING, "", detail='{device="a"}*'), True),
        (Known("container_fs_*", What.MISSING, "", detail="{} *"), False),
        (Known("container_fs_*", What.MISSING, "", only_zero=True), True),
        (Known("container_fs_*", What.MISSING, "", is_own=True), False),
    ],
)
def test_a_reason_holds_for_what_it_names(known: Known, explains: bool) -> None:  # noqa: FBT001 - a parameter
    assert known.explains(finding()) is explains


def test_a_reason_for_zeros_does_not_hold_for_a_number() -> None:
    assert not Known("container_fs_*", What.MISSING, "", only_zero=True).explains(finding(theirs=(0, 1)))


@pytest.mark.parametrize(("ours", "explains"), [(2e6, True), (3.02e6, True), (2, False), (4e6, False)])
def test_a_reason_for_a_wrong_unit_holds_for_that_unit(ours: float, explains: bool) -> None:  # noqa: FBT001 - a parameter
    known = Known("container_fs_*", What.MISSING, "", times=1e6)
    assert known.explains(finding(theirs=(2, 3), ours=ours)) is explains


def test_a_reason_for_what_cadvisor_lacks_holds_for_cgwatchs_own_families() -> None:
    known = Known("container_*", What.MISSING, "", is_own=True)
    assert known.explains(finding(family="container_pids_current"))
    assert not known.explains(finding(family="container_memory_rss"))


def test_what_cgwatch_can_bring_back_is_no_reason_where_it_has_to() -> None:
    known = Known("container_fs_*", What.MISSING, "", restored=True)
    assert [known.holds(one) for one in Round] == [True, True, False]


def test_a_reason_holds_in_its_rounds_and_on_its_machines() -> None:
    rows = (
        Known("container_a", What.VALUE, "", rounds=EVERYTHING),
        Known("container_b", What.VALUE, "", where=lambda: False),
    )
    assert reasons(rows, Round.DEFAULTS).rows == ()
    assert [row.families for row in reasons(rows, Round.STRICT).rows] == ["container_a"]


def test_a_reason_for_nothing_is_told() -> None:
    used, unused = Known("container_fs_x", What.MISSING, "it is"), Known("container_fs_*", What.MISSING, "so")
    other, quiet = (
        Known("container_cpu_*", What.MISSING, "", quiet=why) for why in ("", "it may not be there")
    )
    complete = Reasons((used, unused, other, quiet), is_complete=True)
    assert complete.stale([finding()], {"container_fs_x"}) == [unused, other]
    assert "NOTHING TO EXPLAIN: container_fs_* series that cAdvisor alone has" in stale([unused])
    # Which groups are off is not known: a reason for families that nobody shows is not asked for.
    some = Reasons((used, unused, other, quiet), is_complete=False)
    assert some.stale([finding()], {"container_fs_x"}) == [unused]


def test_a_value_may_be_as_old_as_its_tolerance_says() -> None:
    theirs, ours = observed("counter", {0: 0, 3: 30, 6: 60, 9: 90}), observed("counter", {7: 40})
    assert one_row(theirs, ours).findings != ()
    assert one_row(theirs, ours, Tolerance("container_*", 0, 0, "", lag_seconds=3)).findings == ()


def test_every_difference_is_in_the_readmes_table_and_so_is_whether_it_can_be_had_back() -> None:
    for known in KNOWN:
        said = [
            departure
            for departure in DEPARTURES
            if any(
                fnmatchcase(known.families, name) or fnmatchcase(name, known.families)
                for name in departure.metrics
            )
        ]
        assert said or known.is_own, known
        assert not known.restored or any(departure.restored for departure in said), known


def test_every_reason_says_why_and_differences_without_one_are_told_apart() -> None:
    assert all(known.why for known in KNOWN)
    everything = reasons(KNOWN, Round.ALL)
    alone = Finding("container_new_thing", What.ONLY_CADVISOR, "", "1 series, values 5", (5, 5))
    meant = Finding("container_pids_current", What.ONLY_CGWATCH, "", "1 series")
    assert everything.of(alone) is None
    assert unexplained([meant, alone], everything) == [alone]
    text = differences([meant, alone], everything)
    assert text.startswith("NOT EXPLAINED: container_new_thing cAdvisor alone has the family\n    1 series")
    row = Row("container_new_thing", ("gauge", ""), ("", ""), (1, 0), 0, 0, (alone,))
    assert "DIFFERENT" in table([row], everything)
