from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import UnitError
from cgwatch.keys import LABEL_RENAME, RESERVED_LABELS
from cgwatch.metrics import families
from cgwatch.metrics.families.base import Part
from cgwatch.metrics.labels import SCHEMES, CadvisorScheme, Cutter, KubeletScheme, Scheme, Shown
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.metrics.selection import Selection
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from cgwatch.settings import KEYS

POD = "/kubepods/burstable/pod2edf54f8-6911-449f-9abe-3d468a770d6b"
OTHER_POD = "/kubepods/pod00000000-6911-449f-9abe-3d468a770d6b"
SAID = {
    "io.kubernetes.pod.name": "ledger-0",
    "io.kubernetes.pod.namespace": "bank",
    "io.kubernetes.pod.uid": "2edf54f8-6911-449f-9abe-3d468a770d6b",
    "io.kubernetes.container.name": "db",
}


def container(path: str, labels: dict[str, str] | None = None) -> Container:
    owner = recognise(path)
    said = None
    if labels is not None:
        identity = owner.container_id or ""
        said = Description(Runtime.CONTAINERD, identity, "k8s_db", "example.test/db:1", labels, "running")
    return Container(Cgroup(path, 1), owner, None, said)


def shown(scheme: Scheme, *containers: Container) -> dict[str, dict[str, str]]:
    """The labels on a page, by id."""
    snapshot = Snapshot(0, 1000.0, 0.0, 0.0, tuple(map(Sample, containers)), Layout.V2)
    page = Renderer(families.FAMILIES, scheme=scheme).render(
        snapshot, Format.TEXT, frozenset({"container_last_seen"})
    )
    (family,) = text_string_to_metric_families(page)
    return {sample.labels["id"]: sample.labels for sample in family.samples}


def test_the_kubelet_scheme_has_exactly_its_six_labels_on_every_series() -> None:
    db = f"{POD}/{'a' * 64}"
    found = shown(KubeletScheme(), container("/"), container(POD), container(db, SAID))
    assert {frozenset(labels) for labels in found.values()} == {
        frozenset({"id", "name", "image", "pod", "namespace", "container"})
    }
    assert found[db] == {
        "id": db,
        "name": "k8s_db",
        "image": "example.test/db:1",
        "pod": "ledger-0",
        "namespace": "bank",
        "container": "db",
    }
    assert set(found["/"].values()) == {"/", ""}


def test_a_pods_own_cgroup_has_its_pod_and_namespace_and_no_container() -> None:
    found = shown(KubeletScheme(), container(POD), container(OTHER_POD), container(f"{POD}/{'a' * 64}", SAID))
    assert [found[POD][name] for name in ("pod", "namespace", "container", "image")] == [
        "ledger-0",
        "bank",
        "",
        "",
    ]
    assert [found[OTHER_POD][name] for name in ("pod", "namespace")] == ["", ""]


def test_a_pod_is_named_when_the_first_of_its_containers_is() -> None:
    pod, path = container(POD), f"{POD}/{'a' * 64}"
    renderer = Renderer(families.FAMILIES, scheme=KubeletScheme())

    def page(*containers: Container) -> str:
        snapshot = Snapshot(0, 1000.0, 0.0, 0.0, tuple(map(Sample, containers)), Layout.V2)
        return renderer.render(snapshot, Format.TEXT, frozenset({"container_last_seen"}))

    assert 'pod="ledger-0"' not in page(pod, container(path))
    assert page(pod, container(path, SAID)).count('pod="ledger-0"') == 2


def test_kubernetes_labels_are_labels_like_any_other_to_the_cadvisor_scheme() -> None:
    path = f"{POD}/{'a' * 64}"
    found = shown(CadvisorScheme(Shown(("io.kubernetes.pod.*",))), container(path, SAID))
    assert found[path]["container_label_io_kubernetes_pod_name"] == "ledger-0"
    assert "pod" not in found[path]
    assert "container_label_io_kubernetes_container_name" not in found[path]


def test_the_configuration_knows_every_scheme() -> None:
    assert set(KEYS["metrics.scheme"].choices) == set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_made_with_the_labels_to_show(scheme: str) -> None:
    assert list(shown(SCHEMES[scheme](Shown(("a",))), container("/"))) == ["/"]


# Renames, collisions and bounds.


def labelled(number: int, **labels: str) -> Container:
    return named(f"/docker/{number:064x}", f"web{number}", "example.test/web:1", **labels)


def named(path: str, name: str, image: str, **labels: str) -> Container:
    said = Description(Runtime.DOCKER, path.removeprefix("/docker/"), name, image, labels, "running")
    return Container(Cgroup(path, 1), recognise(path), None, said)


def of_containers(found: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    return [
        {name: value for name, value in labels.items() if name not in {"id", "name", "image"}}
        for labels in found.values()
    ]


def test_a_renamed_label_is_shown_under_its_own_name_and_no_other() -> None:
    scheme = CadvisorScheme(Shown(("com.*",), {"com.docker.compose.service": "service"}))

    found = shown(scheme, labelled(1, **{"com.docker.compose.service": "till", "com.team": "core"}))

    assert of_containers(found) == [{"service": "till", "container_label_com_team": "core"}]


def test_a_label_is_shown_for_its_rename_alone() -> None:
    assert of_containers(
        shown(CadvisorScheme(Shown((), {"a.b": "ab"})), labelled(1, **{"a.b": "1", "c": "2"}))
    ) == [{"ab": "1"}]


def test_labels_that_become_one_name_are_counted_and_the_first_by_alphabet_is_shown() -> None:
    scheme = CadvisorScheme(Shown(("*",)))
    both, other = labelled(1, **{"a.b": "dot", "a-b": "dash", "c": ""}), labelled(2, **{"a/b": "slash"})

    for order in ((both, other), (other, both)):
        found = shown(scheme, *order)
        assert found[both.cgroup.path]["container_label_a_b"] == "dash"
        assert found[other.cgroup.path]["container_label_a_b"] == "slash"
        assert scheme.census.collisions == 1


def test_no_more_labels_are_shown_than_the_bound_and_renamed_ones_first() -> None:
    scheme = CadvisorScheme(Shown(("*",), {"zz": "own"}, most_labels=3))
    containers = [
        labelled(number, **{f"k{number}{place}": "x" for place in range(9)}, zz="y") for number in (1, 2)
    ]

    found = of_containers(shown(scheme, *containers))

    assert found == [
        {"own": "y", "container_label_k10": "x", "container_label_k11": "x"},
        {"own": "y", "container_label_k10": "", "container_label_k11": ""},
    ]
    assert scheme.census.left_out > 0


@pytest.mark.parametrize("scheme", [CadvisorScheme, KubeletScheme])
@given(value=st.text(st.characters(exclude_categories=()), max_size=40), most_bytes=st.integers(16, 60))
def test_a_value_is_cut_to_its_bound_at_a_whole_character(
    scheme: type[CadvisorScheme | KubeletScheme], value: str, most_bytes: int
) -> None:
    cutter = Cutter(most_bytes)
    kept = cutter(value)

    assert value.startswith(kept)
    size = len(value.encode(errors="surrogatepass"))
    assert len(kept.encode(errors="surrogatepass")) <= most_bytes
    assert (kept == value) == (size <= most_bytes) == (cutter.count == 0)
    if kept != value:  # and no shorter than it must be
        assert len(kept.encode(errors="surrogatepass")) > most_bytes - 16

    encoded = scheme(Shown(("*",), most_bytes=most_bytes))
    text = encoded.encode(labelled(1), encoded.survey([labelled(1)]))
    assert 'id="/docker/' + "0" * 63 + '1"' in text  # what tells series apart is never cut


# Selection.


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ((), (), {"/", "/a.service", "/docker/web", "/docker/db"}),
        (("cgroup=/docker/*",), (), {"/docker/web", "/docker/db"}),
        (("name=web*", "kind=root"), (), {"/", "/docker/web"}),
        ((), ("runtime=systemd",), {"/", "/docker/web", "/docker/db"}),
        (("label.team=c?re",), (), {"/docker/db"}),
        (("cgroup=*",), ("image=*/web:*", "kind=unit"), {"/", "/docker/db"}),
        (("name=nobody",), (), set()),
    ],
)
def test_cgroups_are_chosen_by_any_criterion_and_left_out_by_any_other(
    include: tuple[str, ...], exclude: tuple[str, ...], taken: set[str]
) -> None:
    web = labelled(1)
    db = named("/docker/" + "b" * 64, "db", "example.test/db:1", team="core")
    names = {web.cgroup.path: "/docker/web", db.cgroup.path: "/docker/db"}
    selection = Selection(include, exclude)

    containers = (container("/"), container("/a.service"), web, db)

    assert {
        names.get(each.cgroup.path, each.cgroup.path) for each in containers if selection.takes(each)
    } == taken


def test_single_metrics_are_switched_on_and_off_by_globs_over_their_names() -> None:
    def names(include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> set[str]:
        found = families.enabled(frozenset({"memory"}), include, exclude)
        return {family.name for family in found if family.group}

    assert "container_memory_rss" in names()
    assert names(("container_ulimits_*",)) == names() | {"container_ulimits_soft"}
    assert names(exclude=("container_memory_*",)) == set()
    assert names(("container_threads",), ("container_threads",)) == names()


def test_no_rename_can_take_a_name_that_series_have_already() -> None:
    used = {
        name for family in families.FAMILIES if family.part is not Part.SNAPSHOT for name in family.labels
    }

    assert {*used, "id", "name", "image", "pod", "namespace", "container"} <= RESERVED_LABELS
    with pytest.raises(UnitError, match="name that series have already"):
        LABEL_RENAME.read("team=device")
