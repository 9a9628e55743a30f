"""What a runtime says of its containers, on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import FAMILIES, enabled
from cgwatch.metrics.labels import CadvisorScheme, KubeletScheme, Shown
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from tests.golden.reading import series_of, types_of

if TYPE_CHECKING:
    from cgwatch.metrics.labels import Scheme

ID = "a" * 64
PATH = f"/docker/{ID}"
STATE = tuple(family for family in FAMILIES if family.group == "state")
SAID = Description(
    Runtime.DOCKER,
    ID,
    "shop",
    "image:1",
    {"till": "3"},
    "running",
    finished_seconds=50.0,
    health="starting",
    restart_count=2,
)


def snapshot_of(*described: Description | None, has_cgroup: bool = True, **more: int) -> Snapshot:
    samples = tuple(
        Sample(Container(Cgroup(PATH, int(has_cgroup)), recognise(PATH), description=said))
        for said in described
    )
    found = {"samples": samples} if has_cgroup else {"samples": (), "stopped": samples}
    return Snapshot(0, 1000.0, 0.0, 0.0, layout=Layout.V1, **found, **more)  # type: ignore[arg-type]


def page_of(snapshot: Snapshot, scheme: Scheme | None = None) -> dict[str, dict[str, float]]:
    """Give the values by the family's name, and by the value of its own label where it has one."""
    page = Renderer(STATE, scheme=scheme).render(snapshot, Format.TEXT)
    found: dict[str, dict[str, float]] = {}
    for (name, labels), value in series_of(page, Format.TEXT).items():
        own = [text for key, text in labels if key in ("state", "status")]
        found.setdefault(name, {})[own[0] if own else ""] = value
    return found


def test_each_state_is_a_series_of_its_own() -> None:
    for state in ("created", "running", "paused", "restarting", "removing", "exited", "dead"):
        shown = page_of(snapshot_of(structs.replace(SAID, state=state)))["container_state"]
        assert len(shown) == 7
        assert {word for word, value in shown.items() if value == 1} == {state}
        assert sum(shown.values()) == 1


def test_another_runtimes_state_is_one_series_more() -> None:
    shown = page_of(snapshot_of(structs.replace(SAID, state="stopping")))["container_state"]
    assert len(shown) == 8
    assert (shown["stopping"], sum(shown.values())) == (1, 1)


@pytest.mark.parametrize("scheme", [CadvisorScheme(Shown(("*",))), KubeletScheme()])
def test_a_container_has_the_same_series_whether_it_has_a_cgroup_or_not(scheme: Scheme) -> None:
    pages = [
        Renderer(STATE, scheme=scheme).render(snapshot_of(SAID, has_cgroup=has_cgroup), Format.TEXT)
        for has_cgroup in (True, False)
    ]
    assert pages[0] == pages[1]
    assert f'id="{PATH}"' in pages[0]


def test_of_a_container_without_a_cgroup_nothing_else_is_said() -> None:
    everything = Renderer(enabled(frozenset({"state", "cpu", "memory", "process", "disk", "spec"})))
    page = series_of(everything.render(snapshot_of(SAID, has_cgroup=False), Format.TEXT), Format.TEXT)
    of_the_container = {name for name, labels in page if ("id", PATH) in labels}
    assert of_the_container == {family.name for family in STATE if family.name.startswith("container_")} - {
        "container_exit_code"
    }


def test_restarts_are_a_counter_and_no_label() -> None:
    page = Renderer(STATE).render(snapshot_of(SAID), Format.OPENMETRICS)
    assert types_of(page)["container_restarts"] == "counter"
    assert page_of(snapshot_of(SAID))["container_restarts_total"] == {"": 2}
    assert not any(
        "restart" in key for _, labels in series_of(page + "# EOF\n", Format.OPENMETRICS) for key, _ in labels
    )


def test_what_the_runtime_did_not_say_is_absent() -> None:
    silent = Description(Runtime.DOCKER, ID, "shop", "image:1", {}, "")
    assert page_of(snapshot_of(silent)).keys() == {
        "container_oom_killed",
        "cgwatch_stopped_containers_left_out",
    }
    assert page_of(snapshot_of(None)).keys() == {"cgwatch_stopped_containers_left_out"}


def test_how_and_when_it_ended_are_numbers() -> None:
    page = page_of(snapshot_of(structs.replace(SAID, exit_code=0, oom_killed=True)))
    assert page["container_exit_code"] == {"": 0}
    assert page["container_finished_time_seconds"] == {"": 50.0}
    assert page["container_oom_killed"] == {"": 1}


@pytest.mark.parametrize("health", ["starting", "healthy", "unhealthy"])
def test_each_health_is_a_series_of_its_own(health: str) -> None:
    shown = page_of(snapshot_of(structs.replace(SAID, health=health)))["container_health_status"]
    assert shown == {word: int(word == health) for word in ("starting", "healthy", "unhealthy")}


def test_without_a_health_check_there_is_no_health() -> None:
    assert "container_health_status" not in page_of(snapshot_of(structs.replace(SAID, health=None)))


def test_containers_that_had_no_room_are_counted() -> None:
    shown = page_of(snapshot_of(SAID, stopped_left_out=12))
    assert shown["cgwatch_stopped_containers_left_out"] == {"": 12}
