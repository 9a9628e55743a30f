from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from cgwatch.cgroup.controllers import CONTROLLERS
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import AccessDeniedError, CgroupGoneError, KernelFileError, MalformedFileError
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from tests.golden.reading import series_of, types_of
from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Mapping

END = {Format.TEXT: "", Format.OPENMETRICS: "# EOF\n"}
KERNEL_FILES = {
    *(file.name for controller in CONTROLLERS for file in controller.files_v1 + controller.files_v2),
    *("boot_id", "cgroups", "comm", "cpuinfo", "dev", "diskstats", "meminfo", "net", "osrelease", "stat"),
    *("cpu", "io", "irq", "memory", "mountinfo"),
    *("cgroup", "fd", "kmsg", "limits", "netstat", "schedstat", "snmp", "task", "tcp", "tcp6", "udp", "udp6"),
}
PATHS = st.text(st.characters(exclude_categories=())) | st.text("/.\ncgroup\udcff", max_size=20)


def snapshot_of(*paths: str) -> Snapshot:
    samples = tuple(Sample(Container(Cgroup(path, 1), recognise(path))) for path in paths)
    return Snapshot(0, 1234.5, 0.0, 0.0, samples, Layout.V2)


def busy() -> OwnMetrics:
    """Give metrics that have all been moved."""
    own = OwnMetrics()
    descriptors = Descriptors(7)
    descriptors.kept = 1
    own.watch(descriptors, lambda: snapshot_of("/", "/docker/" + "a" * 64, "/docker/" + "b" * 64), 5.0)
    own.sampled(0.004, 2)
    own.failed(MalformedFileError("/sys/fs/cgroup/a/memory.stat", "no"))
    own.scraped("/metrics", "text", 0.1, 1000, 200)
    own.call("docker", "inspect", 0.01, None)
    own.call("docker", "list", 0.01, "timeout")
    own.runtime_is("docker", up=True)
    own.happened("docker", "start")
    return own


def read(own: OwnMetrics, form: Format = Format.TEXT) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page = own.page(form).decode() + END[form]
    return {(name, tuple(sorted(labels))): value for (name, labels), value in series_of(page, form).items()}


def of(
    found: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str
) -> dict[tuple[str, ...], float]:
    """Give the series of one name, by the values of their labels."""
    return {
        tuple(value for _, value in labels): number
        for (each, labels), number in found.items()
        if each == name
    }


def test_everything_that_the_agent_does_is_counted() -> None:
    found = read(busy())

    assert of(found, "cgwatch_sample_duration_seconds_sum") == {(): 0.004}
    assert of(found, "cgwatch_missed_ticks_total") == {(): 2}
    assert of(found, "cgwatch_read_failures_total") == {("MalformedFileError", "memory.stat"): 1}
    assert of(found, "cgwatch_scrape_duration_seconds_count") == {("text", "/metrics"): 1}
    assert of(found, "cgwatch_scrapes_total") == {("200",): 1}
    assert of(found, "cgwatch_scrape_response_bytes_total") == {(): 1000}
    assert of(found, "cgwatch_runtime_api_duration_seconds_count") == {
        ("inspect", "docker"): 1,
        ("list", "docker"): 1,
    }
    assert of(found, "cgwatch_runtime_api_errors_total") == {("timeout", "list", "docker"): 1}
    assert of(found, "cgwatch_runtime_up") == {("docker",): 1}
    assert of(found, "cgwatch_container_events_total") == {("start", "docker"): 1}
    assert len(of(found, "cgwatch_build_info")) == 1


def test_descriptors_and_the_latest_snapshot_are_read_at_each_scrape() -> None:
    found = read(busy())

    assert of(found, "cgwatch_descriptors_kept") == {(): 1}
    assert of(found, "cgwatch_descriptors_budget") == {(): 7}
    assert of(found, "cgwatch_sample_interval_seconds") == {(): 5}
    assert of(found, "cgwatch_last_sample_timestamp_seconds") == {(): 1234.5}
    assert of(found, "cgwatch_cgroups") == {(): 3}
    assert of(found, "cgwatch_containers") == {("container", "docker"): 2, ("root", "none"): 1}


def test_before_the_first_snapshot_there_is_nothing_about_one() -> None:
    own = OwnMetrics()
    own.watch(Descriptors(7), lambda: None, 5.0)
    found = read(own)

    assert of(found, "cgwatch_cgroups") == of(found, "cgwatch_last_sample_timestamp_seconds") == {}
    assert of(found, "cgwatch_sample_interval_seconds") == {(): 5}


def test_the_agents_own_process_is_there() -> None:
    found = read(OwnMetrics())

    assert {name for name, _ in found if name.startswith("process_")} == {
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
    }


@pytest.mark.parametrize("form", Format)
def test_no_series_says_when_another_one_began(form: Format) -> None:
    assert not [name for name, _ in read(busy(), form) if name.endswith("_created")]


def test_other_registries_of_the_process_are_left_as_they_are() -> None:
    busy().page(Format.OPENMETRICS)
    registry = CollectorRegistry()
    Counter("x", "x", registry=registry)

    assert b"x_created" in generate_latest(registry)


def test_both_formats_say_the_same() -> None:
    own = busy()
    text, openmetrics = (read(own, form) for form in Format)

    assert {key for key in text if not key[0].startswith("process_")} == {
        key for key in openmetrics if not key[0].startswith("process_")
    }


def test_no_own_metric_has_the_name_of_a_containers() -> None:
    assert types_of(busy().page(Format.TEXT).decode()).keys().isdisjoint(family.name for family in FAMILIES)


def test_promtool_has_nothing_to_complain_of() -> None:
    require(None if shutil.which("promtool") else "needs promtool, of the Debian package prometheus")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=busy().page(Format.TEXT),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("process_open_fds", {"process_open_fds"}),
        ("cgwatch_missed_ticks_total", {"cgwatch_missed_ticks_total"}),
        ("cgwatch_missed_ticks", {"cgwatch_missed_ticks_total"}),
        ("cgwatch_cgroups", {"cgwatch_cgroups"}),
        (
            "cgwatch_sample_duration_seconds",
            {f"cgwatch_sample_duration_seconds_{suffix}" for suffix in ("bucket", "count", "sum")},
        ),
        (
            "cgwatch_sample_duration_seconds_sum",
            {f"cgwatch_sample_duration_seconds_{suffix}" for suffix in ("bucket", "count", "sum")},
        ),
        ("container_memory_rss", set()),
    ],
)
def test_a_family_is_found_by_its_own_name_or_by_that_of_a_sample(
    form: Format, name: str, shown: set[str]
) -> None:
    page = busy().page(form, frozenset({name})).decode() + END[form]

    assert {each for each, _ in series_of(page, form)} == shown


@given(paths=st.lists(PATHS, max_size=50))
def test_whatever_cgroups_are_called_the_label_file_has_a_bounded_set_of_values(paths: list[str]) -> None:
    own = OwnMetrics()
    for path in paths:
        for kind in (MalformedFileError, AccessDeniedError, CgroupGoneError, KernelFileError):
            own.failed(kind(path, "no"))
            own.failed(kind(f"/sys/fs/cgroup/{path}/memory.stat", "no"))

    found = of(read(own), "cgwatch_read_failures_total")
    assert sum(found.values()) == 8 * len(paths)
    assert {file for _, file in found} <= KERNEL_FILES | {"directory"}


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/sys/fs/cgroup/docker/abc/memory.events", "memory.events"),
        ("/sys/fs/cgroup/blkio/blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
        ("/proc/meminfo", "meminfo"),
        ("/proc/17/net/dev", "dev"),
        ("/proc/17/ns/net", "net"),
        ("/sys/fs/cgroup/docker/evil\nname", "directory"),
        ("/sys/fs/cgroup/docker/", "directory"),
        ("", "directory"),
    ],
)
def test_a_file_that_failed_is_told_by_its_name_and_a_directory_by_none(path: str, file: str) -> None:
    own = OwnMetrics()
    own.failed(MalformedFileError(path, "no"))

    assert of(read(own), "cgwatch_read_failures_total") == {("MalformedFileError", file): 1}
