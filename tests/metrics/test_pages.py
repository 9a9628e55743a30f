from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from cgwatch import __version__
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.pages import LatestPages
from cgwatch.metrics.render import Renderer
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from tests.golden.reading import series_of

T = TypeVar("T")

WAIT_SECONDS = 20
ALL: frozenset[str] = frozenset()


class Clock:
    """A monotonic clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class FakeRenderer(Renderer):
    """Writes which snapshot it renders; ``gate`` holds every rendering back while it is closed."""

    def __init__(self) -> None:
        super().__init__(())
        self.rendered: list[tuple[int, Format, frozenset[str]]] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def write(
        self,
        snapshot: Snapshot,
        form: Format,
        take: Callable[[Iterator[bytes]], T],
        names: frozenset[str] = ALL,
    ) -> T:
        self.rendered.append((snapshot.sequence, form, names))
        self.entered.set()
        assert self.gate.wait(WAIT_SECONDS)
        return take(iter([f"# snapshot {snapshot.sequence}\n".encode()]))


def snapshot_of(sequence: int, monotonic_seconds: float = 0.0, paths: tuple[str, ...] = ("/",)) -> Snapshot:
    samples = tuple(Sample(Container(Cgroup(path, 1), recognise(path))) for path in paths)
    return Snapshot(sequence, 1000.0 + sequence, monotonic_seconds, 0.0125, samples, Layout.HYBRID)


def pages_of(renderer: Renderer, clock: Clock | None = None) -> LatestPages:
    return LatestPages(renderer, OwnMetrics(), node="here", interval_seconds=5.0, monotonic=clock or Clock())


def whole(pages: LatestPages, form: Format, names: frozenset[str] = ALL) -> bytes:
    """Give the page as a client gets it; compressed or not, it is the same but for what the agent counts."""
    plain, compressed = b"".join(pages.page(form, names)), gzip.decompress(pages.compressed(form, names))
    assert without_own(compressed) == without_own(plain)
    return plain


def without_own(page: bytes) -> list[bytes]:
    return [line for line in page.splitlines() if not line.startswith((b"cgwatch_", b"process_"))]


def test_before_the_first_snapshot_a_page_has_the_agents_own_metrics() -> None:
    pages = pages_of(Renderer(FAMILIES))

    for form in Format:
        found = {name for name, _ in series_of(whole(pages, form).decode(), form)}
        assert "cgwatch_build_info" in found
        assert "container_last_seen" not in found


@pytest.mark.parametrize("form", Format)
def test_a_page_has_the_containers_of_the_latest_snapshot_and_the_agents_own_metrics(form: Format) -> None:
    pages = pages_of(Renderer(FAMILIES))
    for number in (1, 2):
        pages.publish(snapshot_of(number, paths=("/", f"/{number}")))
        page = whole(pages, form).decode()

    found = series_of(page, form)
    assert {
        dict(labels)["id"]: value for (name, labels), value in found.items() if name == "container_last_seen"
    } == {
        "/": 1002,
        "/2": 1002,
    }
    assert "cgwatch_build_info" in {name for name, _ in found}


def test_openmetrics_ends_with_its_marker_and_text_has_none() -> None:
    pages = pages_of(Renderer(FAMILIES))
    pages.publish(snapshot_of(1))

    for names in (ALL, frozenset({"container_last_seen"}), frozenset({"nothing"})):
        page = whole(pages, Format.OPENMETRICS, names)
        assert page.endswith(b"# EOF\n")
        assert page.count(b"# EOF") == 1
        assert b"# EOF" not in whole(pages, Format.TEXT, names)


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ({"container_last_seen"}, {"container_last_seen"}),
        ({"cgwatch_build_info"}, {"cgwatch_build_info"}),
        ({"machine_scrape_error", "process_open_fds"}, {"machine_scrape_error", "process_open_fds"}),
        ({"no_such_name"}, set()),
    ],
)
def test_names_choose_families_of_the_containers_and_of_the_agent(
    form: Format, names: set[str], shown: set[str]
) -> None:
    pages = pages_of(Renderer(FAMILIES))
    pages.publish(snapshot_of(1))

    found = series_of(whole(pages, form, frozenset(names)).decode(), form)
    assert {name for name, _ in found} == shown


def test_scrapes_of_one_snapshot_at_a_time_or_later_share_one_rendering() -> None:
    renderer = FakeRenderer()
    pages = pages_of(renderer)
    pages.publish(snapshot_of(1))
    renderer.gate.clear()
    together = threading.Barrier(4)

    def scrape() -> bytes:
        together.wait(WAIT_SECONDS)
        return b"".join(pages.page(Format.TEXT, ALL))

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(scrape) for _ in range(4)]
        assert renderer.entered.wait(WAIT_SECONDS)
        renderer.gate.set()
        texts = [answer.result(WAIT_SECONDS) for answer in answers]
    texts += [b"".join(pages.page(Format.TEXT, ALL)), gzip.decompress(pages.compressed(Format.TEXT, ALL))]

    assert all(b"# snapshot 1\n" in text for text in texts)
    assert renderer.rendered == [(1, Format.TEXT, ALL)]


def test_each_format_of_each_snapshot_is_rendered_once() -> None:
    renderer = FakeRenderer()
    pages = pages_of(renderer)
    for number in (1, 2):
        pages.publish(snapshot_of(number))
        for form in (*Format, *Format):
            assert f"# snapshot {number}\n".encode() in b"".join(pages.page(form, ALL))

    assert renderer.rendered == [(number, form, ALL) for number in (1, 2) for form in Format]


def test_a_page_of_some_families_is_not_taken_for_the_whole_one() -> None:
    renderer = FakeRenderer()
    pages = pages_of(renderer)
    pages.publish(snapshot_of(1))
    some = frozenset({"container_last_seen"})
    for names in (some, ALL, some, ALL):
        pages.page(Format.TEXT, names)

    assert renderer.rendered == [(1, Format.TEXT, some), (1, Format.TEXT, ALL), (1, Format.TEXT, some)]


def test_the_snapshot_before_the_latest_is_kept_for_rates() -> None:
    pages = pages_of(Renderer(FAMILIES))
    first, second = snapshot_of(1), snapshot_of(2)
    pages.publish(first)
    assert (pages.previous, pages.snapshot) == (None, first)
    pages.publish(second)
    assert (pages.previous, pages.snapshot) == (first, second)


@pytest.mark.parametrize(("age_seconds", "alive"), [(0, True), (15, True), (15.1, False)])
def test_the_agent_is_alive_while_its_last_tick_is_at_most_three_intervals_old(
    age_seconds: float, *, alive: bool
) -> None:
    clock = Clock()
    pages = pages_of(Renderer(FAMILIES), clock)
    pages.publish(snapshot_of(1, monotonic_seconds=200.0))
    clock.seconds = 200.0 + age_seconds
    health = pages.health()

    assert (health.alive, health.ready) == (alive, True)
    assert health.detail == f"last tick {age_seconds:.1f} s ago, interval 5 s"


def test_before_the_first_tick_the_agent_is_alive_for_as_long_and_not_ready() -> None:
    clock = Clock()
    pages = pages_of(Renderer(FAMILIES), clock)
    clock.seconds += 15
    assert (pages.health().alive, pages.health().ready) == (True, False)
    assert pages.health().detail == "no tick yet; started 15.0 s ago, interval 5 s"
    clock.seconds += 1
    assert (pages.health().alive, pages.health().ready) == (False, False)


def test_the_landing_page_says_what_is_sampled_and_how_the_runtimes_do() -> None:
    pages = pages_of(Renderer(FAMILIES))
    pages.runtimes = (("Docker", "answers"),)
    assert pages.about().rows == (("Interval", "5 s"), ("Docker", "answers"))

    pages.publish(snapshot_of(1, paths=("/", "/docker/" + "a" * 64)))
    about = pages.about()
    assert (about.version, about.node) == (__version__, "here")
    assert dict(about.rows) == {
        "Interval": "5 s",
        "Cgroup layout": "hybrid",
        "Containers": "1",
        "Cgroups": "2",
        "Last tick": "12.5 ms",
        "Kernel": "",
        "Operating system": "",
        "Docker": "answers",
    }
