from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.shares import Formula, shares_of, weight_of
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families.spec import FAMILIES
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.metrics.shares import shown_shares
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

LINEAR, QUADRATIC = Formula.LINEAR, Formula.QUADRATIC
DOCKER = f"/docker/{'a' * 64}"
SHARES = tuple(family for family in FAMILIES if family.name == "container_spec_cpu_shares")


def sample(weight: int | None, asked: int | None = None, shares: int | None = None) -> Sample:
    said = Description(Runtime.DOCKER, "a" * 64, "", "", {}, "running", cpu_shares=asked)
    container = Container(Cgroup(DOCKER, 1), recognise(DOCKER), description=said)
    return Sample(container, cpu=CpuStats(weight=weight, shares=shares))


def shown(weight: int | None, asked: int | None = None, **formulas: Formula) -> int | None:
    one = sample(weight, asked)
    assert one.cpu is not None
    return shown_shares(one, one.cpu, formulas)


@pytest.mark.parametrize("formula", Formula)
@pytest.mark.parametrize("asked", [2, 3, 102, 512, 999, 1000, 1024, 2048, 4096, 262144])
def test_shares_that_docker_was_asked_for_are_shown_exactly_whatever_wrote_them(
    asked: int, formula: Formula
) -> None:
    assert shown(weight_of(asked, formula), asked) == asked


@pytest.mark.parametrize("formulas", [{}, {"docker": LINEAR}, {"docker": QUADRATIC}])
def test_the_kernels_default_weight_is_its_default_of_shares(formulas: Mapping[str, Formula]) -> None:
    assert shown(100, None, **formulas) == 1024


def test_a_weight_that_somebody_else_wrote_is_shown_by_the_formula_of_the_node() -> None:
    assert shown(60, 512) == shares_of(60, LINEAR)
    assert shown(60, 512, docker=QUADRATIC) == shares_of(60, QUADRATIC)


def test_without_a_hint_a_weight_is_shown_as_cadvisor_does_and_with_one_of_its_writer_by_that() -> None:
    assert shown(39) == 998
    assert shown(39, crio=QUADRATIC) == 998
    assert shown(59, docker=QUADRATIC) == 521  # 512 as well: the weight is the same


def test_an_idle_cgroup_has_the_least_shares() -> None:
    assert shown(0) == 2  # cpu.weight is 0 while cpu.idle is 1
    assert shown(0, docker=QUADRATIC) == 2


def test_shares_of_v1_are_shown_as_they_are_and_no_weight_has_none() -> None:
    assert shown(None) is None
    one = sample(None, 512, shares=77)
    assert one.cpu is not None
    assert shown_shares(one, one.cpu, {}) == 77


def test_a_page_that_keeps_texts_shows_new_shares_when_the_formula_becomes_known() -> None:
    renderer = Renderer(SHARES)
    page = Snapshot(0, 0.0, 0.0, 0.0, (sample(59),), Layout.V2)
    for _ in range(3):  # until it keeps them
        assert "} 1522\n" in renderer.render(page, Format.TEXT)

    told = structs.replace(page, formulas={"docker": QUADRATIC})

    assert "} 521\n" in renderer.render(told, Format.TEXT)
