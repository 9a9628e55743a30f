from __future__ import annotations

from typing import Any

import pytest

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.shares import Formula, weight_of
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample
from cgwatch.sampling.formulas import Formulas, known_shares, writer_of
from tests.golden.pages import take

LINEAR, QUADRATIC = Formula.LINEAR, Formula.QUADRATIC
DOCKER = f"/docker/{'a' * 64}"
GUARANTEED = "/kubepods/pod01234567-89ab-cdef-0123-456789abcdef"
BURSTABLE = "/kubepods/burstable/pod01234567-89ab-cdef-0123-456789abcdef"


def sample(path: str, *, made: float = 1.0, shares: int | None = None, **cpu: Any) -> Sample:
    """A cgroup; ``shares`` are what Docker says of it."""
    said = Description(Runtime.DOCKER, "", "", "", {}, "running", cpu_shares=shares) if shares else None
    container = Container(Cgroup(path, 1), recognise(path), created_seconds=made, description=said)
    return Sample(container, cpu=CpuStats(**cpu))


def docker(shares: int, formula: Formula, made: float = 1.0) -> Sample:
    return sample(DOCKER, made=made, shares=shares, weight=weight_of(shares, formula))


def test_a_container_whose_shares_docker_tells_tells_the_formula_of_its_runtime() -> None:
    assert Formulas().update([docker(512, LINEAR)]) == {"docker": LINEAR}
    assert Formulas().update([docker(512, QUADRATIC)]) == {"docker": QUADRATIC}


def test_a_guaranteed_pod_tells_by_its_quota_and_another_one_does_not() -> None:
    limits: dict[str, Any] = {"quota_microseconds": 50_000, "period_microseconds": 100_000, "weight": 59}
    container = f"{GUARANTEED}/{'b' * 64}"

    assert Formulas().update([sample(GUARANTEED, **limits)]) == {"kubelet": QUADRATIC}
    assert Formulas().update([sample(container, **limits)]) == {str(recognise(container).runtime): QUADRATIC}
    assert Formulas().update([sample(BURSTABLE, **limits)]) == {}


@pytest.mark.parametrize(
    ("tree", "runtime"),
    [("kubernetes_containerd_v2_systemd", "containerd"), ("kubernetes_crio_v2_systemd", "crio")],
)
def test_on_a_captured_node_of_kubernetes_the_guaranteed_pod_tells(tree: str, runtime: str) -> None:
    assert take(tree).formulas == {"kubelet": LINEAR, runtime: LINEAR}


def test_on_a_captured_node_of_docker_its_api_tells() -> None:
    assert take("docker_v2").formulas == {"docker": LINEAR}


def test_what_tells_nothing_is_passed_over() -> None:
    nothing = (
        sample(DOCKER),
        sample(DOCKER, shares=512),
        sample(DOCKER, shares=512, weight=21),
        sample(DOCKER, weight=59),
        sample("/system.slice/cron.service", weight=59, shares=512),
        Sample(Container(Cgroup(DOCKER, 1), recognise(DOCKER))),
    )
    assert Formulas().update(nothing) == {}


def test_a_weight_that_may_not_be_written_yet_tells_nothing() -> None:
    # 1024 shares by the newer formula, or a cgroup that the runtime has just made.
    assert Formulas().update([sample(DOCKER, shares=1024, weight=100)]) == {}


def test_the_newest_container_decides_and_is_remembered() -> None:
    formulas = Formulas()
    first = formulas.update([docker(512, LINEAR, made=10)])

    assert formulas.update([docker(512, QUADRATIC, made=9), docker(512, LINEAR, made=11)]) is first
    assert formulas.update([]) is first
    assert formulas.update([docker(256, QUADRATIC, made=20)]) == {"docker": QUADRATIC}
    assert first == {"docker": LINEAR}


def test_pods_are_the_kubelets_and_containers_their_runtimes() -> None:
    assert writer_of(recognise(DOCKER)) == "docker"
    assert writer_of(recognise(GUARANTEED)) == "kubelet"
    assert writer_of(recognise("/kubepods/burstable")) == "kubelet"
    assert writer_of(recognise("/system.slice")) is None


def test_docker_says_shares_rather_than_the_quota() -> None:
    quota: dict[str, Any] = {"quota_microseconds": 50_000, "period_microseconds": 100_000}
    assert known_shares(sample(GUARANTEED, shares=300, **quota)) == 300
    assert known_shares(sample(GUARANTEED, **quota)) == 512
    assert known_shares(sample(DOCKER, **quota)) is None
