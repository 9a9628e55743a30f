from __future__ import annotations

import difflib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.families.base import Part
from cgwatch.metrics.negotiation import Format
from cgwatch.model import Kind, Runtime
from tests.golden.pages import ALL_TREES, TREES, TREES_FOLDER, descriptions, golden, render, take
from tests.golden.reading import Series, series_of, types_of, walk
from tests.golden.replay import oldest_cgroups_first, replay
from tests.real.needs import require

if TYPE_CHECKING:
    from cgwatch.model import Container, Snapshot

SHOWN_LINES = 60

# What promtool complains of, and why it stays: queries and dashboards know these by cAdvisor's names.
_NO_COUNTER = 'non-counter metrics should not have "_total" suffix'
_NO_HISTOGRAM = 'non-histogram and non-summary metrics should not have "_count" suffix'
_NO_TOTAL = 'counter metrics should have "_total" suffix'
WITHOUT_TOTAL = {"container_memory_failcnt", "container_hugetlb_failcnt"}
KNOWN_COMPLAINTS = {
    "cadvisor_version_info": "label names should be written in 'snake_case' not 'camelCase'",
    "container_cpu_load_d_average_10s": "metric names should not contain abbreviated units",
    "container_memory_failcnt": _NO_TOTAL,
    "container_hugetlb_failcnt": _NO_TOTAL,
    "container_network_advance_tcp_stats_total": _NO_COUNTER,
    "container_network_tcp6_usage_total": _NO_COUNTER,
    "container_network_tcp_usage_total": _NO_COUNTER,
    "container_network_udp6_usage_total": _NO_COUNTER,
    "container_network_udp_usage_total": _NO_COUNTER,
    "machine_node_hugepages_count": _NO_HISTOGRAM,
    "machine_thread_siblings_count": _NO_HISTOGRAM,
}

tree_and_form = pytest.mark.parametrize(
    ("tree", "form"), [(tree, form) for tree in ALL_TREES for form in Format]
)


@pytest.fixture(scope="module")
def snapshots() -> dict[str, Snapshot]:
    return {tree: take(tree) for tree in ALL_TREES}


def labels_of(container: Container) -> dict[str, str]:
    said, owner = container.description, container.owner
    unnamed = (
        owner.container_id if owner.runtime is Runtime.CONTAINERD and owner.kind is Kind.CONTAINER else ""
    )
    return {
        "id": container.cgroup.path,
        "name": said.name if said else unnamed or "",
        "image": said.image if said else "",
        "container_label_com_docker_compose_service": (
            said.labels.get("com.docker.compose.service", "") if said else ""
        ),
    }


def without_empty_labels(series: Mapping[Series, float]) -> dict[Series, float]:
    """Where no container has a name there is no such label; an empty one is the same to Prometheus."""
    return {
        (name, frozenset((key, value) for key, value in labels if value)): number
        for (name, labels), number in series.items()
    }


def test_every_captured_tree_has_a_golden_page() -> None:
    assert {place.name for place in TREES_FOLDER.iterdir()} == set(ALL_TREES)


@pytest.mark.parametrize("tree", ALL_TREES)
def test_the_cgroups_of_a_replayed_tree_have_the_order_in_which_they_were_made(
    tmp_path: Path, tree: str
) -> None:
    cgroups = oldest_cgroups_first(TREES_FOLDER / tree)
    copy = replay(TREES_FOLDER / tree, tmp_path) / "cgroup"
    hierarchies = [copy] if (copy / "cgroup.controllers").exists() else list(copy.iterdir())
    made = {
        place for hierarchy in hierarchies for place in (hierarchy, *hierarchy.rglob("*")) if place.is_dir()
    }

    assert {copy / cgroup for cgroup in cgroups} == made
    assert cgroups == sorted(cgroups, key=lambda cgroup: (copy / cgroup).stat().st_ino)


@tree_and_form
def test_the_page_of_a_captured_tree_is_the_golden_one(
    snapshots: dict[str, Snapshot], tree: str, form: Format
) -> None:
    kept, page = golden(tree, form).read_text(), render(snapshots[tree], form)

    difference = list(
        difflib.unified_diff(kept.splitlines(), page.splitlines(), "golden", "now", n=0, lineterm="")
    )
    if difference:
        shown = "\n".join(difference[:SHOWN_LINES])
        more = f"\n... and {len(difference) - SHOWN_LINES} lines" if len(difference) > SHOWN_LINES else ""
        pytest.fail(f"`make golden` writes the page anew; what changed:\n{shown}{more}", pytrace=False)
    assert kept == page


@tree_and_form
def test_a_parser_reads_from_the_page_what_a_walk_over_the_snapshot_finds(
    snapshots: dict[str, Snapshot], tree: str, form: Format
) -> None:
    found = series_of(golden(tree, form).read_text(), form)
    expected = walk(snapshots[tree], FAMILIES, labels_of)

    # The one label of a golden page that does not come from the snapshot: see tests.golden.pages.
    for each in (found, expected):
        (version,) = [series for series in each if series[0] == "cadvisor_version_info"]
        del each[version]
    if tree in TREES:
        assert found == expected
    else:
        assert without_empty_labels(found) == without_empty_labels(expected)


@tree_and_form
def test_each_family_has_the_type_of_the_catalogue_in_both_formats(tree: str, form: Format) -> None:
    page = golden(tree, form).read_text()
    shown = {series[0] for series in series_of(page, form)}

    expected = {family.name: str(family.type) for family in FAMILIES if family.name in shown}
    if form is Format.OPENMETRICS:
        expected = {
            name.removesuffix("_total") if kind == "counter" else name: kind
            for name, kind in expected.items()
        }
        for name in WITHOUT_TOTAL & expected.keys():
            expected[name] = "unknown"  # OpenMetrics has no counter without _total
    assert types_of(page) == expected


@pytest.mark.parametrize("tree", ALL_TREES)
def test_both_formats_say_the_same(tree: str) -> None:
    text, openmetrics = (series_of(golden(tree, form).read_text(), form) for form in Format)

    assert text == openmetrics


@pytest.mark.parametrize("tree", ALL_TREES)
def test_promtool_has_nothing_to_complain_of_but_names_that_are_kept_on_purpose(tree: str) -> None:
    require(None if shutil.which("promtool") else "needs promtool, of the Debian package prometheus")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=golden(tree, Format.TEXT).read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    shown = types_of(golden(tree, Format.TEXT).read_text())
    expected = {f"{name} {complaint}" for name, complaint in KNOWN_COMPLAINTS.items() if name in shown}
    assert set((done.stdout + done.stderr).splitlines()) == expected


@pytest.mark.parametrize("tree", TREES)
def test_every_container_of_a_captured_tree_has_the_name_that_docker_gave_it(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    named = {
        sample.container.description.name: sample.container.owner.container_id
        for sample in snapshots[tree].samples
        if sample.container.description
    }

    assert named == {said.name: said.container_id for said in descriptions(tree).values()}
    assert named.keys() == {"limited", "unlimited", "host"}


@pytest.mark.parametrize("tree", [tree for tree in ALL_TREES if tree.startswith("kubernetes")])
def test_the_network_of_a_pod_is_shown_by_its_pause_container(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    sandboxes = json.loads((TREES_FOLDER / tree / "cri.json").read_text())["sandboxes"]
    of_pods = {one["id"] for one in sandboxes if one["linux"]["namespaces"]["options"]["network"] == "POD"}

    assert with_network(snapshots[tree]) == of_pods
    assert len(of_pods) == 2


def test_the_network_of_a_podman_pod_is_shown_by_its_infra_container(snapshots: dict[str, Snapshot]) -> None:
    names = {one.name: one.container_id for one in descriptions("podman_rootless_v2").values()}

    assert with_network(snapshots["podman_rootless_v2"]) == {names["web"], names["infra"]}


def with_network(snapshot: Snapshot) -> set[str | None]:
    return {
        sample.container.owner.container_id
        for sample in snapshot.samples
        if sample.network and sample.container.cgroup.path != "/"
    }


@pytest.mark.parametrize("tree", ALL_TREES)
def test_a_series_that_is_missing_where_its_part_is_there_is_explained_by_the_catalogue(
    snapshots: dict[str, Snapshot], tree: str
) -> None:
    snapshot = snapshots[tree]
    shown = {
        (name, dict(labels)["id"])
        for name, labels in walk(snapshot, FAMILIES, labels_of)
        if dict(labels).get("id")
    }
    unexplained = {
        (family.name, sample.container.cgroup.path)
        for family in FAMILIES
        if family.part is not Part.SNAPSHOT and not family.absent
        for sample in snapshot.samples
        if family.part is Part.SAMPLE or getattr(sample, family.part) is not None
    } - shown

    assert unexplained == set()
