"""Whatever containers and their labels are like, the page is valid and within its bounds."""

from __future__ import annotations

import gzip
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TypeVar

import pytest

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.labels import CadvisorScheme, Shown
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.pages import LatestPages
from cgwatch.metrics.render import Bounds, Renderer
from cgwatch.metrics.server import Server
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot

T = TypeVar("T")

MEBIBYTE = 1 << 20
CONTAINERS = 5000
NASTY = 'a"b\\c\nd\te\ufffd\udcff{}=,#'
HUGE = NASTY + "x" * 65_536
MANY = {f"label {number}": HUGE for number in range(10_000)}
ORDINARY = {"team": "core", NASTY: NASTY}
SHOWN = Shown(("*",), {}, most_labels=64, most_bytes=1024)

# One line of the text format, as its grammar has it.
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
LINE = re.compile(
    rf"[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{{(?:{_LABEL}(?:,{_LABEL})*)?\}})? (?:[-+0-9.eE]+|[+-]?Inf|NaN)"
)


def container(number: int) -> Container:
    identity = f"{number:064x}"
    labels = MANY if number % 500 == 0 else ORDINARY
    name = HUGE if number % 100 == 1 else f"web-{number}{NASTY}"
    path = f"/docker/{identity}"
    said = Description(Runtime.DOCKER, identity, name, NASTY, labels, "running")
    return Container(Cgroup(path, number + 2), recognise(path), 10.0, said)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    root = Container(Cgroup("/", 1), recognise("/"), 10.0)
    memory, cpu = MemoryStats(usage_bytes=1, limit_hits_total=2), CpuStats(usage_seconds=1.5)
    samples = tuple(
        Sample(each, memory=memory, cpu=cpu) for each in (root, *map(container, range(CONTAINERS)))
    )
    return Snapshot(0, 1000.0, 0.0, 0.0, samples, Layout.V2)


class Counting(Renderer):
    """Counts how often it renders."""

    rendered = 0

    def write(
        self,
        snapshot: Snapshot,
        form: Format,
        take: Callable[[Iterator[bytes]], T],
        names: frozenset[str] = frozenset(),
    ) -> T:
        self.rendered += 1
        return super().write(snapshot, form, take, names)


def renderer_of(bounds: Bounds) -> Counting:
    return Counting(FAMILIES, scheme=CadvisorScheme(SHOWN), bounds=bounds)


def lines_of(page: bytes) -> list[str]:
    """Give the series; every line of the page is one, or a comment."""
    text = page.decode()
    assert text.endswith("\n")
    lines = [line for line in text.split("\n")[:-1] if not line.startswith("#")]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    return lines


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(),
        Bounds(page_bytes=16 * MEBIBYTE),
        Bounds(series=20_000),
        Bounds(series=20_000, page_bytes=4 * MEBIBYTE),
    ],
    ids=["unbounded", "bytes", "series", "both"],
)
def test_thousands_of_containers_with_nasty_names_and_labels_make_a_valid_page_within_its_bounds(
    snapshot: Snapshot, bounds: Bounds
) -> None:
    renderer = renderer_of(bounds)

    for _ in range(2):  # the second page is of what the first one kept
        lines = lines_of(renderer.render(snapshot, Format.TEXT).encode())
        of_cgroups = [line for line in lines if '{id="' in line]

        assert len(of_cgroups) == renderer.census.series <= bounds.series
        assert sum(len(line.encode()) + 1 for line in of_cgroups) == renderer.census.page_bytes
        assert renderer.census.page_bytes <= bounds.page_bytes
        shown = sum(line.startswith("container_last_seen{") for line in of_cgroups)
        assert shown == CONTAINERS + 1 - renderer.census.cgroups_left_out
        assert any('{id="/",' in line for line in of_cgroups)
        assert (renderer.census.cgroups_left_out > 0) == (bounds != Bounds())

    names = {name for line in of_cgroups for name in re.findall(r"(container_label_\w+)=", line)}
    assert len(names) == SHOWN.most_labels
    assert renderer.label_census.left_out > 0
    assert renderer.label_census.cut_total > 0


def test_what_was_cut_is_counted_on_the_page_and_logged_once(
    snapshot: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    own = OwnMetrics()
    renderer = renderer_of(Bounds(series=20_000))
    pages = LatestPages(renderer, own, node="here", interval_seconds=5.0, monotonic=lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            pages.publish(snapshot)
            pages.page(Format.TEXT, frozenset())
            pages.publish(Snapshot(1, 1001.0, 0.0, 0.0, snapshot.samples, Layout.V2))
            page = b"".join(pages.page(Format.TEXT, frozenset())).decode()

    said = dict(line.split() for line in page.splitlines() if line.startswith("cgwatch_page_"))
    assert int(float(said["cgwatch_page_cgroups_left_out"])) == renderer.census.cgroups_left_out > 0
    assert int(float(said["cgwatch_page_labels_left_out"])) == renderer.label_census.left_out > 0
    assert int(float(said["cgwatch_page_label_values_cut_total"])) == renderer.label_census.cut_total > 0
    assert [record.message for record in caplog.records] == [
        "cgroups have no series: no room on the page",
        "labels of containers are not shown",
        "values of labels were cut",
    ]


def test_a_hundred_scrapes_at_once_render_a_snapshot_once(snapshot: Snapshot) -> None:
    renderer = renderer_of(Bounds(page_bytes=4 * MEBIBYTE))
    pages = LatestPages(renderer, OwnMetrics(), node="here", interval_seconds=5.0, monotonic=lambda: 0.0)
    server = Server("127.0.0.1:0", pages, max_requests=100)
    server.start()
    port = int(server.address.rpartition(":")[2])
    together = threading.Barrier(100)

    def scrape() -> bytes:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        together.wait(60)
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Encoding"]) == (200, "gzip")
        body = answer.read()
        connection.close()
        return gzip.decompress(body)

    try:
        for number in (1, 2):
            pages.publish(Snapshot(number, 1000.0 + number, 0.0, 0.0, snapshot.samples, Layout.V2))
            with ThreadPoolExecutor(100) as clients:
                answers = [clients.submit(scrape) for _ in range(100)]
                bodies = [answer.result(60) for answer in answers]
            assert renderer.rendered == number
            ours = {body.partition(b"# HELP cgwatch_")[0].partition(b"# HELP process_")[0] for body in bodies}
            assert len(ours) == 1
            assert b'container_last_seen{id="/",' in ours.pop()
    finally:
        server.stop()
