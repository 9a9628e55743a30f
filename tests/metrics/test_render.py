from __future__ import annotations

import itertools
import math
import random
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import FAMILIES, GROUPS, enabled
from cgwatch.metrics.families.base import Part
from cgwatch.metrics.labels import CadvisorScheme, Shown, Survey
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Bounds, Renderer
from cgwatch.metrics.selection import Selection
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from cgwatch.proc.machine import Machine
from cgwatch.proc.meminfo import Meminfo
from cgwatch.proc.network import InterfaceCounters
from cgwatch.settings import Settings
from tests.golden.reading import Series, restored, series_of, walk

ID = "0123456789abcdef" * 4
T = TypeVar("T", bound=Struct)
EOF_LINE = {Format.TEXT: "", Format.OPENMETRICS: "# EOF\n"}


def container(path: str, said: Description | None = None) -> Container:
    return Container(Cgroup(path, 1), recognise(path), 10.0, said)


def description(name: str = "web", image: str = "nginx:1", **labels: str) -> Description:
    return Description(Runtime.DOCKER, ID, name, image, labels, "running")


def snapshot_of(*containers: Container, time_seconds: float = 1000.0) -> Snapshot:
    samples = tuple(Sample(each, memory=MemoryStats(usage_bytes=1)) for each in containers)
    return Snapshot(0, time_seconds, 0.0, 0.0, samples, Layout.V2)


def labels_by_id(renderer: Renderer, snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """Give the labels of the containers besides ``id``."""
    page = renderer.render(snapshot, Format.TEXT, frozenset({"container_last_seen"}))
    found = [dict(labels) for _, labels in series_of(page, Format.TEXT)]
    return {labels.pop("id"): labels for labels in found}


# Any snapshot: its texts are hypothesis', its hundreds of numbers follow from one.

TEXT = st.text(st.characters(exclude_categories=()), max_size=8) | st.text('\\"\n/\ufffd\udcff', max_size=4)
PATHS = st.just("/") | TEXT.map(lambda name: f"/{name}") | st.sampled_from([f"/docker/{ID}", "/a.service"])
LABELS = st.dictionaries(TEXT | st.sampled_from(["a.b", "a-b"]), TEXT, max_size=3)
DESCRIPTIONS = st.none() | st.tuples(TEXT, TEXT, LABELS).map(
    lambda said: Description(Runtime.DOCKER, ID, *said, "running")
)
DEVICES = {(8, 0): "/dev/sda", (259, 0): '/dev/"nvme"\udcff'}


class Filler:
    """Fills structs with any values that their annotations allow."""

    def __init__(self, seed: int) -> None:
        self._numbers = itertools.count()
        self._random = random.Random(seed)  # noqa: S311 - not for secrets

    def struct(self, kind: type[T], **given_fields: Any) -> T:
        fields = {each.name: each.type for each in structs.fields(kind) if each.name not in given_fields}
        return kind(**{name: self._value(of) for name, of in fields.items()}, **given_fields)

    def _value(self, kind: Any) -> Any:
        if isinstance(kind, types.UnionType):
            members = typing.get_args(kind)
            is_limit = {int, float} <= set(members)
            return math.inf if is_limit and self.maybe() else self._value(self._random.choice(members))
        if typing.get_origin(kind) is tuple:
            return tuple(self._value(typing.get_args(kind)[0]) for _ in range(self._random.randrange(3)))
        if typing.get_origin(kind) is Mapping:
            key, value = typing.get_args(kind)
            return {self._value(key): self._value(value) for _ in range(self._random.randrange(3))}
        if issubclass(kind, Struct):
            return self.struct(kind)
        choices: dict[type, tuple[Any, ...]] = {
            bool: (False, True),
            int: (0, 1, 4096, self._random.getrandbits(64)),
            float: (0.0, 1e-9, 1e18, self._random.uniform(0, 1e6)),
            str: (f"text{next(self._numbers)}",),  # of two rows with the same label there must be none
            types.NoneType: (None,),
        }
        return self._random.choice(choices[kind])

    def maybe(self) -> bool:
        return self.chance() < 0.5

    def chance(self) -> float:
        return self._random.random()

    def sample(self, path: str, said: Description | None) -> Sample:
        devices = tuple(
            self.struct(IoDevice, major=major, minor=minor, bytes_by_operation=operations)
            for major, minor in ((8, 0), (8, 1), (259, 0))
            for operations in ((), (("Read", 1), ("Total", 2)))[: self.maybe()]
        )
        names = ("eth0", 'e"\\\udcff')[: 2 * self.maybe()]
        network = tuple(self.struct(InterfaceCounters, name=name) for name in names)
        return self.struct(
            Sample, container=container(path, said), io=IoStats(devices=devices), network=network or None
        )


def filled(seed: int, containers: list[tuple[str, Description | None]], node: str) -> Snapshot:
    filler = Filler(seed)
    return Snapshot(
        sequence=0,
        time_seconds=seed / 3,
        monotonic_seconds=0,
        duration_seconds=0,
        samples=tuple(filler.sample(path, said) for path, said in containers),
        layout=Layout.V2,
        machine=filler.struct(Machine, os_name=node) if filler.maybe() else None,
        memory=filler.struct(Meminfo) if filler.maybe() else None,
        devices=DEVICES,
    )


SNAPSHOTS = st.builds(
    filled,
    st.integers(0, (1 << 32) - 1),
    st.lists(st.tuples(PATHS, DESCRIPTIONS), max_size=3, unique_by=lambda each: each[0]),
    TEXT,
)


@pytest.mark.parametrize("form", Format)
@settings(max_examples=60, deadline=None)  # the parsers are slow
@given(snapshot=SNAPSHOTS)
def test_the_page_of_any_snapshot_is_read_back_with_every_series_once(
    form: Format, snapshot: Snapshot
) -> None:
    families = enabled(GROUPS)
    page = Renderer(families).render(snapshot, form) + EOF_LINE[form]
    named = any(
        sample.container.description and sample.container.description.name for sample in snapshot.samples
    )

    def labels_of(each: Container) -> dict[str, str]:
        said = each.description
        names = {"name": said.name if said else "", "image": said.image if said else ""} if named else {}
        return {"id": each.cgroup.path, **names}

    page.encode()
    found = {
        (name, frozenset((key, restored(value)) for key, value in labels)): value
        for (name, labels), value in series_of(page, form).items()
    }
    expected: dict[Series, float] = {
        (name, frozenset((key, restored(value)) for key, value in labels)): value
        for (name, labels), value in walk(snapshot, families, labels_of).items()
    }
    assert found == expected


@given(snapshot=SNAPSHOTS, order=st.randoms())
def test_the_labels_of_a_container_do_not_depend_on_the_order_of_anything(
    snapshot: Snapshot, order: Any
) -> None:
    samples = list(snapshot.samples)
    order.shuffle(samples)
    shuffled = structs.replace(snapshot, samples=tuple(samples))

    assert labels_by_id(Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("*",)))), snapshot) == labels_by_id(
        Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("*",)))), shuffled
    )


# Labels of the containers.


def test_before_any_container_has_a_name_there_is_its_path_alone() -> None:
    assert labels_by_id(Renderer(FAMILIES), snapshot_of(container("/"), container("/a"))) == {
        "/": {},
        "/a": {},
    }


def test_name_and_image_are_empty_for_what_has_none() -> None:
    named = container(f"/docker/{ID}", description())

    assert labels_by_id(Renderer(FAMILIES), snapshot_of(container("/"), named)) == {
        "/": {"name": "", "image": ""},
        f"/docker/{ID}": {"name": "web", "image": "nginx:1"},
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/default/{ID}", ID),
        ("/lxc/mail", "mail"),
        (f"/docker/{ID}", ""),
        ("/system.slice/ssh.service", ""),
    ],
)
def test_what_no_api_names_shows_the_id_where_cadvisor_does(path: str, name: str) -> None:
    named = container("/docker/" + "f" * 64, description())

    assert labels_by_id(Renderer(FAMILIES), snapshot_of(named, container(path)))[path]["name"] == name


@pytest.mark.parametrize(
    ("globs", "shown"),
    [
        ((), set()),
        (("*",), {"com_docker_compose_service", "com_docker_compose_project", "TEAM"}),
        (("com.docker.compose.*",), {"com_docker_compose_service", "com_docker_compose_project"}),
        (("team", "TEAM"), {"TEAM"}),
        (("com.docker.compose.s?rvice",), {"com_docker_compose_service"}),
        (("com_docker*", "nothing"), set()),
    ],
)
def test_the_labels_shown_are_those_that_a_glob_over_their_keys_lists(
    globs: tuple[str, ...], shown: set[str]
) -> None:
    said = description(
        **{"com.docker.compose.service": "till", "com.docker.compose.project": "shop", "TEAM": "a"}
    )
    found = labels_by_id(
        Renderer(FAMILIES, scheme=CadvisorScheme(Shown(globs))), snapshot_of(container("/a", said))
    )

    assert found["/a"].keys() - {"name", "image"} == {f"container_label_{name}" for name in shown}


def test_of_keys_that_make_one_name_a_container_shows_the_first_that_it_has() -> None:
    several = container("/a", description(**{f"a{sign}b": sign for sign in "~/.-*:!@"}))
    one = container("/b", description(**{"a.b": "."}))
    neither = container("/c")

    for order in itertools.permutations((several, one, neither)):
        found = labels_by_id(Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("a*",)))), snapshot_of(*order))
        assert [found[path]["container_label_a_b"] for path in ("/a", "/b", "/c")] == ["!", ".", ""]


def test_cgroups_of_mounts_are_left_out() -> None:
    found = labels_by_id(
        Renderer(FAMILIES, selection=Selection(exclude=Settings().metrics.cgroups.exclude)),
        snapshot_of(container("/"), container("/dev-hugepages.mount"), container("/a.service")),
    )

    assert found.keys() == {"/", "/a.service"}


# What is kept between two pages.


class CountingScheme(CadvisorScheme):
    encoded = 0

    def encode(self, container: Container, survey: Survey) -> str:
        self.encoded += 1
        return super().encode(container, survey)


def test_the_labels_of_a_container_are_encoded_once_in_its_life() -> None:
    scheme = CountingScheme()
    renderer = Renderer(FAMILIES, scheme=scheme)
    containers = [container(f"/{number}") for number in range(5)]

    for form in (*Format, *Format):
        renderer.render(snapshot_of(*containers), form)
        renderer.render(snapshot_of(*containers), form, frozenset({"container_last_seen"}))
    renderer.render(snapshot_of(*containers, container("/new")), Format.TEXT)

    assert scheme.encoded == 6


def test_a_container_that_gets_another_name_shows_it_on_the_next_page() -> None:
    renderer = Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("*",))))
    seen = [
        labels_by_id(renderer, snapshot_of(container("/"), each))["/a"]
        for each in (
            container("/a"),
            container("/a", description("old", team="x")),
            container("/a", description("new", team="y")),
            container("/a", description("new")),
            container("/a"),
        )
    ]

    assert seen == [
        {},
        {"name": "old", "image": "nginx:1", "container_label_team": "x"},
        {"name": "new", "image": "nginx:1", "container_label_team": "y"},
        {"name": "new", "image": "nginx:1"},
        {},
    ]


def test_a_container_that_went_leaves_nothing_behind() -> None:
    renderer = Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("*",))))
    stays = container("/")
    for number in range(20):
        came = container(f"/{number}", description(f"name{number}", **{f"label{number}": "x"}))
        page = renderer.render(snapshot_of(stays, came), Format.TEXT)
        assert f"name{number}" in page
        assert f"name{number - 1}" not in page
        assert len(renderer._blocks) == 2  # this would be the leak

    assert renderer.render(snapshot_of(), Format.TEXT).count("container_last_seen") == 0
    assert len(renderer._blocks) == 0


# What a request may ask for.


@given(snapshot=SNAPSHOTS)
def test_a_page_is_the_pages_of_its_families_one_after_the_other(snapshot: Snapshot) -> None:
    renderer = Renderer(FAMILIES)

    for form in Format:
        pages = [renderer.render(snapshot, form, frozenset({family.name})) for family in FAMILIES]
        assert "".join(pages) == renderer.render(snapshot, form)


def test_a_counter_of_openmetrics_is_found_by_the_names_of_its_family_and_of_its_samples() -> None:
    snapshot = snapshot_of(container("/a"))
    snapshot = structs.replace(
        snapshot, samples=(structs.replace(snapshot.samples[0], memory=MemoryStats(limit_hits_total=1)),)
    )

    def page(form: Format, name: str) -> str:
        return Renderer(FAMILIES).render(snapshot, form, frozenset({name}))

    whole = "container_memory_events_max_total"
    assert page(Format.OPENMETRICS, whole) == page(Format.OPENMETRICS, whole.removesuffix("_total")) != ""
    assert page(Format.TEXT, whole.removesuffix("_total")) == ""
    assert page(Format.TEXT, "container_memory_failcnt") != ""
    assert page(Format.TEXT, "no_such_family") == ""


def test_a_family_without_series_is_not_on_the_page() -> None:
    page = Renderer(FAMILIES).render(snapshot_of(container("/a")), Format.TEXT)

    assert "container_memory_usage_bytes" in page
    assert "container_memory_rss" not in page


@pytest.mark.parametrize(
    ("form", "stamp"), [(Format.TEXT, " 1795341900250"), (Format.OPENMETRICS, " 1795341900.25")]
)
def test_timestamps_are_written_only_where_they_are_wanted(form: Format, stamp: str) -> None:
    snapshot = snapshot_of(container("/a"), time_seconds=1_795_341_900.25)
    plain, stamped = (
        Renderer(FAMILIES, timestamps=wanted).render(snapshot, form) for wanted in (False, True)
    )

    assert stamped == "".join(
        line if line.startswith("#") else line.rstrip("\n") + stamp + "\n"
        for line in plain.splitlines(keepends=True)
    )
    parse = parse_text if form is Format.TEXT else parse_openmetrics
    for family in parse(stamped + EOF_LINE[form]):
        for sample in family.samples:
            assert float(sample.timestamp or 0) == 1_795_341_900.25


# Pages one after the other: what is kept of one must not show on the next where it does not hold.


def moved(filler: Filler, sample: Sample, changes: float) -> Sample:
    """Give the sample of the next tick: of the very same parts, or of others."""
    if filler.chance() >= changes:
        return structs.replace(sample)
    other = filler.sample(sample.container.cgroup.path, sample.container.description)
    return structs.replace(other, container=sample.container)


@settings(max_examples=20, deadline=None)
@given(
    snapshot=SNAPSHOTS,
    seed=st.integers(0, (1 << 32) - 1),
    changes=st.lists(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=8),
)
def test_a_page_says_the_same_whatever_was_on_the_pages_before_it(
    snapshot: Snapshot, seed: int, changes: list[float]
) -> None:
    filler = Filler(seed)
    renderer = Renderer(FAMILIES)

    for number, share in enumerate(changes):
        samples = tuple(moved(filler, sample, share) for sample in snapshot.samples)
        devices = DEVICES if filler.maybe() else {}
        snapshot = structs.replace(snapshot, samples=samples, time_seconds=1000.0 + number, devices=devices)
        for form in Format:
            assert renderer.render(snapshot, form) == Renderer(FAMILIES).render(snapshot, form)


def idle(number: int) -> Snapshot:
    containers = [container(f"/{place}") for place in range(number)]
    return snapshot_of(container("/"), *containers)


def test_while_nothing_changes_what_a_container_says_is_written_once() -> None:
    written: list[object] = []

    def noted(memory: object) -> int:
        written.append(memory)
        return 1

    counted = [
        structs.replace(family, value=noted)
        for family in FAMILIES
        if family.name == "container_memory_usage_bytes"
    ]
    renderer = Renderer(tuple(counted))
    snapshot = idle(20)
    for number in range(10):
        snapshot = structs.replace(
            snapshot, samples=tuple(structs.replace(each) for each in snapshot.samples), sequence=number
        )
        renderer.render(snapshot, Format.TEXT)
        if number > 3:
            assert len(written) == 1  # the root's, which may show what is the node's
        written.clear()


# Bounds.


def lines_of(page: str) -> list[str]:
    return [f"{line}\n" for line in page.split("\n")[:-1]]


def ids_on(page: str) -> set[str]:
    return {dict(labels)["id"] for _, labels in series_of(page, Format.TEXT) if "id" in dict(labels)}


@settings(max_examples=30, deadline=None)
@given(
    snapshot=SNAPSHOTS,
    series=st.integers(0, 200) | st.just(math.inf),
    page_bytes=st.integers(0, 20_000) | st.just(math.inf),
)
def test_a_page_is_never_larger_than_its_bounds_and_whole_for_each_cgroup_on_it(
    snapshot: Snapshot, series: float, page_bytes: float
) -> None:
    of_containers = tuple(family for family in FAMILIES if family.part is not Part.SNAPSHOT)
    renderer = Renderer(of_containers, bounds=Bounds(series, page_bytes))
    whole = Renderer(of_containers).render(snapshot, Format.TEXT)

    for _ in range(3):
        page = renderer.render(snapshot, Format.TEXT)
        lines = [line for line in lines_of(page) if not line.startswith("#")]
        assert len(lines) <= series
        assert len("".join(lines).encode()) <= page_bytes
        assert (len(lines), len("".join(lines).encode())) == (
            renderer.census.series,
            renderer.census.page_bytes,
        )
        shown = ids_on(page)
        assert len(ids_on(whole)) - len(shown) == renderer.census.cgroups_left_out
        expected = [
            line
            for line in lines_of(whole)
            if not line.startswith("#") and ids_on("# TYPE x untyped\n" + line) <= shown
        ]
        assert lines == expected


def test_containers_come_before_services_where_there_is_no_room_for_all() -> None:
    containers = [container(f"/docker/{number:064x}") for number in range(3)]
    snapshot = snapshot_of(container("/"), container("/a.service"), *containers, container("/zz"))
    first = Renderer(FAMILIES)
    first.render(snapshot_of(container("/"), *containers), Format.TEXT)

    renderer = Renderer(FAMILIES, bounds=Bounds(series=first.census.series))

    assert ids_on(renderer.render(snapshot, Format.TEXT)) == {"/", *(one.cgroup.path for one in containers)}
    assert renderer.census.cgroups_left_out == 2


def test_what_had_no_room_is_back_on_the_page_when_there_is_some_again() -> None:
    renderer = Renderer(FAMILIES, bounds=Bounds(page_bytes=3000))
    few, many = idle(2), idle(200)
    whole = Renderer(FAMILIES).render(few, Format.TEXT)

    for snapshot in (few, many, few):
        page = renderer.render(snapshot, Format.TEXT)
        assert renderer.census.page_bytes <= 3000
        assert (renderer.census.cgroups_left_out > 0) == (snapshot is many)
        assert (page == whole) == (snapshot is few)


def test_an_enormous_label_costs_its_own_container_alone() -> None:
    huge = container("/huge", description(note="x" * 100_000))
    snapshot = snapshot_of(container("/"), container("/a"), huge, container("/z"))
    renderer = Renderer(FAMILIES, scheme=CadvisorScheme(Shown(("*",))), bounds=Bounds(page_bytes=50_000))

    assert ids_on(renderer.render(snapshot, Format.TEXT)) == {"/", "/a", "/z"}
