from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics import families
from cgwatch.metrics.labels import SCHEMES, CadvisorScheme, KubeletScheme, Scheme
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
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
    found = shown(CadvisorScheme(("io.kubernetes.pod.*",)), container(path, SAID))
    assert found[path]["container_label_io_kubernetes_pod_name"] == "ledger-0"
    assert "pod" not in found[path]
    assert "container_label_io_kubernetes_container_name" not in found[path]


def test_the_configuration_knows_every_scheme() -> None:
    assert set(KEYS["metrics.scheme"].choices) == set(SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_made_with_the_labels_to_show(scheme: str) -> None:
    assert list(shown(SCHEMES[scheme](("a",)), container("/"))) == ["/"]
