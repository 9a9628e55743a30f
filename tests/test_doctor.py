from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch import assembly
from cgwatch.cgroup.controllers import CONTROLLERS
from cgwatch.doctor import (
    HOST_CHECKS,
    SURVEY_CHECKS,
    cgroups,
    examine,
    features,
    files,
    machine,
    namespaces,
    oom,
    privileges,
    resources,
    runtimes,
    services,
)
from cgwatch.doctor.affected import affected, phrase
from cgwatch.doctor.finding import Finding, Host, Level, Limit
from cgwatch.doctor.survey import Survey, take
from cgwatch.errors import AccessDeniedError, FileMissingError, NoCgroupsError
from cgwatch.groups import Groups
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.landing import About, landing_page
from cgwatch.settings import Discovery, Docker, Metrics, Oom, Roots, Sampling, Settings
from tests.discovery.fake_docker import FakeDocker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cgwatch.cgroup.files import File
    from cgwatch.proc.machine import Machine

TREES = Path(__file__).parent / "trees"
NOBODY = 65534


class Node:
    """A captured tree that a test may change before it is surveyed."""

    def __init__(self, place: Path, name: str) -> None:
        self.tree = place / name
        shutil.copytree(TREES / name, self.tree, symlinks=True)
        self.cgroup = self.tree / "cgroup"
        self.proc = self.tree / "proc"
        self.sys = place / "sys"
        self.dev = place / "dev"
        self.state = place / "state"
        for directory in (self.sys, self.dev, self.state):
            directory.mkdir()
        # Captures leave this file out; every real root of a v1 hierarchy has it.
        for directory in self.cgroup.iterdir():
            if directory.is_dir() and not (self.cgroup / "cgroup.controllers").exists():
                (directory / "release_agent").write_text("")

    @property
    def settings(self) -> Settings:
        return Settings(
            listen="127.0.0.1:0",
            state_dir=str(self.state),
            roots=Roots(str(self.cgroup), str(self.proc)),
            discovery=Discovery(Docker(enabled=False)),
        )

    @property
    def host(self) -> Host:
        return Host(self.settings, 0, Limit(1024, 4096), str(self.sys), str(self.dev))

    def survey(self, settings: Settings | None = None) -> Survey:
        return take(settings or self.settings, assembly.open_sampler)

    def is_kernel(self, release: str) -> None:
        (self.proc / "sys/kernel/osrelease").write_text(f"{release}\n")

    def containers(self, hierarchy: str = "") -> list[Path]:
        return sorted(
            path for path in (self.cgroup / hierarchy).rglob("*") if re.search("[0-9a-f]{64}", path.name)
        )

    def disk(self, name: str, numbers: str, scheduler: str, *, used: bool = True) -> None:
        directory = self.sys / "block" / name
        (directory / "queue").mkdir(parents=True)
        (directory / "dev").write_text(f"{numbers}\n")
        (directory / "stat").write_text(f"     {int(used)}      0       0\n")
        (directory / "queue/scheduler").write_text(scheduler)


@pytest.fixture
def v1(tmp_path: Path) -> Node:
    return Node(tmp_path, "docker_v1")


@pytest.fixture
def v2(tmp_path: Path) -> Node:
    return Node(tmp_path, "docker_v2")


@pytest.fixture
def hybrid(tmp_path: Path) -> Node:
    return Node(tmp_path, "hybrid")


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


IRQ = "missing there: container_pressure_irq_stalled_seconds_total"
LOCAL = "missing there: container_cpu_local_throttled_seconds_total"
BUILT_WITHOUT: dict[str, set[str]] = {
    "docker_v1": set(),
    "docker_v2": {IRQ, LOCAL},
    "hybrid": {IRQ},
    "systemd_v2": {IRQ, LOCAL},
}
"""Options that the captured kernels were built without."""


def lacking(node: Node, survey: Survey) -> set[str]:
    return {finding.consequence for finding in worse_than_ok(files.absent(node.host, survey))}


WITHOUT_PIDS = (
    "all metrics of the group pids, container_spec_pids_limit, container_threads, container_threads_max"
)


def worse_than_ok(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


# What metrics need.


def test_every_check_says_what_it_looks_at() -> None:
    for check in (*SURVEY_CHECKS, *HOST_CHECKS):
        assert check.__doc__, check.__name__


def test_a_metric_is_affected_by_a_file_that_its_source_names() -> None:
    rows = {file.name: file for file in _all_files()}

    assert affected([rows["memory.peak"]]) == ("container_memory_max_usage_bytes",)
    assert affected([rows["memory.events.local"]]) == ()
    # In parentheses: what the root falls back on.
    assert "container_memory_usage_bytes" not in affected([rows["memory.stat"]])


def test_on_v1_the_v1_part_of_a_source_counts() -> None:
    v1_stat = next(file for file in _all_files() if (file.name, file.controller) == ("cpu.stat", "cpu"))

    assert "container_cpu_cfs_throttled_seconds_total" in affected([v1_stat])
    assert "container_cpu_usage_seconds_total" not in affected([v1_stat])


def test_a_group_that_is_missing_altogether_is_called_by_its_name() -> None:
    names = [family.name for family in FAMILIES if family.group == "network"]

    assert phrase([*names, "container_threads"]) == "all metrics of the group network, container_threads"
    assert phrase(names[1:]) == ", ".join(names[1:])


def test_the_metrics_that_features_speak_of_exist() -> None:
    known = {family.name for family in FAMILIES}
    for feature in features.FEATURES:
        named = re.findall(r"container_\w+(?!\w*\*)\b", feature.consequence)
        assert named
        for name in named:
            assert any(family.startswith(name) for family in known), name


def _all_files() -> list[File]:
    return [file for controller in CONTROLLERS for file in controller.files_v2 + controller.files_v1]


# The cgroup tree.


def test_the_layout_names_each_controller_and_its_place(hybrid: Node) -> None:
    finding = only(cgroups.layout(hybrid.host, hybrid.survey()))

    assert finding.level is Level.OK
    assert finding.found.startswith("hybrid: ")
    assert f"memory at {hybrid.cgroup}/memory; " in finding.found
    assert finding.found.endswith(f"at {hybrid.cgroup}/unified")


def test_cgroups_without_any_readable_controller_are_an_error(v2: Node) -> None:
    survey = v2.survey()
    bare = structs.replace(
        survey.snapshot,
        samples=tuple(
            structs.replace(sample, memory=None, cpu=None, io=None, pids=None)
            for sample in survey.snapshot.samples
        ),
    )

    last = list(cgroups.layout(v2.host, structs.replace(survey, snapshot=bare)))[-1]

    assert (last.level, last.consequence) == (Level.ERROR, "nothing can be sampled")


@pytest.mark.parametrize("name", ["docker_v1", "docker_v2", "hybrid", "systemd_v2"])
def test_a_whole_tree_is_well(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path, name)

    assert only(cgroups.view(node.host, node.survey())).level is Level.OK


def test_a_v2_mount_whose_top_is_no_root_shows_a_part_of_the_tree(v2: Node) -> None:
    (v2.cgroup / "cgroup.events").write_text("populated 1\nfrozen 0\n")

    finding = only(cgroups.view(v2.host, v2.survey()))

    assert finding.level is Level.WARNING
    assert str(v2.cgroup) in finding.found
    assert "--cgroup-root /host/sys/fs/cgroup" in finding.advice
    assert "--cgroupns=host" in finding.advice


def test_a_v1_mount_whose_top_is_no_root_shows_a_part_of_the_tree(v1: Node) -> None:
    (v1.cgroup / "memory/release_agent").unlink()

    finding = only(cgroups.view(v1.host, v1.survey()))

    assert finding.level is Level.WARNING
    assert finding.found == f"only a part of the cgroup tree is mounted at {v1.cgroup}/memory"


def test_a_mount_of_a_cgroup_below_the_root_shows_a_part_of_the_tree(v2: Node) -> None:
    survey = v2.survey()
    unified = survey.hierarchies.unified
    assert unified
    below = structs.replace(
        survey, hierarchies=structs.replace(survey.hierarchies, unified=structs.replace(unified, prefix="/x"))
    )

    assert only(cgroups.view(v2.host, below)).level is Level.WARNING


@pytest.mark.parametrize(
    ("table", "advice"),
    [
        ("pids\t0\t1\t1\n", "mount -t cgroup -o pids none /sys/fs/cgroup/pids"),
        ("pids\t0\t1\t0\n", "remove cgroup_disable=pids"),
        ("cpu\t1\t1\t1\n", "this kernel was built without it"),
    ],
)
def test_a_v1_controller_that_is_not_mounted_costs_its_metrics(v1: Node, table: str, advice: str) -> None:
    shutil.rmtree(v1.cgroup / "pids")
    (v1.proc / "cgroups").write_text(table)

    finding = only(worse_than_ok(cgroups.controllers(v1.host, v1.survey())))

    assert (finding.level, finding.subject) == (Level.WARNING, "controller pids")
    assert finding.consequence == f"missing: {WITHOUT_PIDS}"
    assert advice in finding.advice


def test_half_of_the_cpu_controllers_of_v1_is_missed_on_its_own(v1: Node) -> None:
    shutil.rmtree(v1.cgroup / "cpuacct")

    finding = only(worse_than_ok(cgroups.controllers(v1.host, v1.survey())))

    assert finding.subject == "controller cpuacct"
    assert "container_cpu_usage_seconds_total" in finding.consequence
    assert "container_cpu_cfs_periods_total" not in finding.consequence


def test_a_v2_controller_that_the_root_does_not_offer_costs_its_metrics(v2: Node) -> None:
    (v2.cgroup / "cgroup.controllers").write_text("cpu io memory\n")

    finding = only(worse_than_ok(cgroups.controllers(v2.host, v2.survey())))

    assert finding.subject == "controller pids"
    assert "container_threads" in finding.consequence


@pytest.mark.parametrize("name", ["v1", "v2", "hybrid"])
def test_a_controller_that_nobody_wants_is_not_looked_for(name: str, request: pytest.FixtureRequest) -> None:
    node: Node = request.getfixturevalue(name)
    shutil.rmtree(node.cgroup / "cpuset", ignore_errors=True)
    findings = list(cgroups.controllers(node.host, node.survey()))

    assert worse_than_ok(findings) == []
    assert {finding.subject for finding in findings} == {
        f"controller {usual}" for usual in ("memory", "cpu", "io", "pids")
    }


def test_a_controller_that_is_wanted_and_not_mounted_costs_its_metrics(v1: Node) -> None:
    shutil.rmtree(v1.cgroup / "cpuset", ignore_errors=True)
    (v1.proc / "cgroups").write_text("cpuset\t0\t1\t1\n")
    settings = structs.replace(v1.settings, metrics=Metrics(groups=Groups(cpuset=True)))

    finding = only(worse_than_ok(cgroups.controllers(v1.host, v1.survey(settings))))

    assert (finding.level, finding.subject) == (Level.WARNING, "controller cpuset")
    assert finding.consequence == "missing: all metrics of the group cpuset"
    assert "mount -t cgroup -o cpuset none /sys/fs/cgroup/cpuset" in finding.advice


def test_a_controller_that_is_not_enabled_for_a_container_is_a_warning(v2: Node) -> None:
    container = v2.containers()[0]
    for file in container.glob("pids.*"):
        file.unlink()

    survey = v2.survey()
    finding = only(worse_than_ok(cgroups.enabled(v2.host, survey)))

    assert (finding.level, finding.subject) == (Level.WARNING, "controller pids")
    assert f"not enabled for 1 container, such as /docker/{container.name}" in finding.found
    assert finding.consequence == f"missing for them: {WITHOUT_PIDS}"
    assert lacking(v2, survey) == BUILT_WITHOUT["docker_v2"]


def test_a_controller_that_is_not_enabled_for_a_unit_alone_is_well(tmp_path: Path) -> None:
    node = Node(tmp_path, "systemd_v2")
    for file in (node.cgroup / "init.scope").glob("memory.*"):
        if not file.name.endswith("pressure"):
            file.unlink()

    assert not worse_than_ok(cgroups.enabled(node.host, node.survey()))


# Single files.


@pytest.mark.parametrize("name", ["docker_v1", "docker_v2", "hybrid", "systemd_v2"])
def test_no_file_of_a_real_kernel_is_a_failure(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path, name)
    survey = node.survey()

    assert only(files.failures(node.host, survey)).level is Level.OK
    assert lacking(node, survey) == BUILT_WITHOUT[name]


def test_a_malformed_file_is_named_with_its_path(v2: Node) -> None:
    broken = v2.containers()[0] / "memory.current"
    broken.write_text("much\n")

    finding = only(worse_than_ok(files.failures(v2.host, v2.survey())))

    assert finding.level is Level.WARNING
    assert str(broken) in finding.found
    assert "expected one integer, found 'much\\n'" in finding.found


def test_files_that_this_user_may_not_read_are_a_warning_with_their_metrics(v2: Node) -> None:
    survey = v2.survey()
    refused = next(absence for absence in survey.absences if not absence.is_of_root)
    peak = next(file for file in _all_files() if file.name == "memory.peak")
    refused = structs.replace(
        refused, file=peak, error=AccessDeniedError("/x", "Permission denied"), reason="not readable"
    )

    finding = only(files.absent(v2.host, structs.replace(survey, absences=(refused,))))

    assert finding.level is Level.WARNING
    assert finding.found == "not readable: memory.peak (in 1 cgroup)"
    assert finding.consequence == "missing there: container_memory_max_usage_bytes"


def test_files_that_a_kernel_lacks_are_summed_up_by_their_reason(v2: Node) -> None:
    survey = v2.survey()
    template = next(absence for absence in survey.absences if not absence.is_of_root)
    rows = {file.name: file for file in _all_files()}
    lacking = tuple(
        structs.replace(
            template,
            file=rows[name],
            error=FileMissingError("/x", "No such file"),
            reason="too old",
            container=sample.container,
            controller_enabled=True,
        )
        for name in ("memory.low", "memory.events")
        for sample in survey.containers
    )

    finding = only(files.absent(v2.host, structs.replace(survey, absences=lacking)))

    assert finding.level is Level.NOTE
    assert finding.found == "too old: memory.low, memory.events (in 3 cgroups)"
    assert "container_memory_failcnt" in finding.consequence
    assert "container_spec_memory_reservation_limit_bytes" in finding.consequence


# What kernels and boot parameters decide.


def test_block_io_of_v2_is_always_counted(v2: Node) -> None:
    v2.disk("vda", "254:0", "[none] bfq")

    assert only(features.block_io(v2.host, v2.survey())).level is Level.OK


def without_block_io(node: Node) -> None:
    for file in (node.cgroup / "blkio").rglob("blkio.throttle.io_serv*"):
        file.write_text("Total 0\n")


def test_v1_from_kernel_6_9_does_not_count_disks_without_a_throttle_rule(v1: Node) -> None:
    v1.is_kernel("6.9.0")
    v1.disk("vda", "254:0", "[none] mq-deadline bfq")
    v1.disk("vdb", "254:16", "none [bfq]")
    v1.disk("vdc", "254:32", "[none]", used=False)
    v1.disk("loop0", "7:0", "[none]")
    without_block_io(v1)

    finding = only(features.block_io(v1.host, v1.survey()))

    assert finding.level is Level.WARNING
    assert finding.found.startswith("not counted on vda: ")
    assert finding.consequence == "missing for these devices: all metrics of the group diskIO"
    assert "docker run --device-write-bps /dev/vda:1tb" in finding.advice
    assert '"254:0 1099511627776" > blkio.throttle.write_bps_device' in finding.advice


def test_v1_before_kernel_6_9_counts_every_disk(v1: Node) -> None:
    v1.is_kernel("6.8.12")
    v1.disk("vda", "254:0", "[none]")
    without_block_io(v1)

    assert only(features.block_io(v1.host, v1.survey())).level is Level.OK


def test_a_disk_that_is_counted_in_any_cgroup_is_well(v1: Node) -> None:
    v1.disk("vda", "254:0", "[none]")
    without_block_io(v1)
    row = (
        "254:0 Read 1\n254:0 Write 0\n254:0 Sync 1\n254:0 Async 0\n254:0 Discard 0\n254:0 Total 1\nTotal 1\n"
    )
    (v1.cgroup / "blkio/blkio.throttle.io_service_bytes_recursive").write_text(row)

    assert only(features.block_io(v1.host, v1.survey())).level is Level.OK


def test_pressure_that_every_container_has_is_well(hybrid: Node) -> None:
    assert only(features.pressure(hybrid.host, hybrid.survey())).level is Level.OK


@pytest.mark.parametrize(
    ("release", "cmdline", "level", "advice"),
    [
        ("6.1.0", "quiet psi=0", Level.WARNING, "without psi=0"),
        ("6.1.0", "quiet", Level.WARNING, "psi=1 on the kernel's command line"),
        ("4.19.0", "quiet", Level.NOTE, "use kernel 4.20 or newer"),
    ],
)
def test_pressure_that_is_off_has_a_cause(
    v2: Node, release: str, cmdline: str, level: Level, advice: str
) -> None:
    v2.is_kernel(release)
    (v2.proc / "cmdline").write_text(cmdline)

    finding = only(features.pressure(v2.host, v2.survey()))

    assert finding.level is level
    assert finding.consequence == "missing: all metrics of the group pressure"
    assert advice in finding.advice


def test_pressure_without_a_unified_hierarchy_is_missing_though_the_kernel_has_it(v1: Node) -> None:
    finding = only(features.pressure(v1.host, v1.survey()))

    assert finding.level is Level.WARNING
    assert "mount -t cgroup2" in finding.advice


def test_a_container_without_pressure_is_named(hybrid: Node) -> None:
    container = hybrid.containers("unified")[0]
    for file in container.glob("*.pressure"):
        file.unlink()

    finding = only(features.pressure(hybrid.host, hybrid.survey()))

    assert finding.level is Level.WARNING
    assert f"not given for 1 of 3 cgroups, such as /docker/{container.name}" in finding.found


def feature(node: Node, subject: str) -> Finding:
    return only(f for f in features.features(node.host, node.survey()) if f.subject == subject)


def test_peak_memory_is_missing_before_kernel_5_19(v2: Node) -> None:
    assert feature(v2, "peak memory").level is Level.OK
    v2.is_kernel("5.15.0")
    for file in v2.cgroup.rglob("memory.peak"):
        file.unlink()

    finding = feature(v2, "peak memory")

    assert finding.level is Level.NOTE
    assert finding.found.startswith("not given for ")
    assert finding.found.endswith("memory.peak since kernel 5.19, this is 5.15")
    assert finding.consequence.startswith(
        "container_memory_max_usage_bytes is the highest of cgwatch's samples"
    )


def test_swap_accounting_that_is_off_is_noted(v2: Node) -> None:
    assert feature(v2, "swap accounting").level is Level.OK
    for file in v2.cgroup.rglob("memory.swap.*"):
        file.unlink()

    finding = feature(v2, "swap accounting")

    assert finding.level is Level.NOTE
    assert "swapaccount=1" in finding.advice


def test_time_on_each_cpu_is_a_matter_of_v1(v1: Node, tmp_path: Path) -> None:
    assert feature(v1, "time on each CPU").level is Level.OK
    other = tmp_path / "other"
    other.mkdir()
    assert 'cpu="total"' in feature(Node(other, "docker_v2"), "time on each CPU").consequence


def test_a_kernel_without_quotas_is_noted(v2: Node) -> None:
    assert feature(v2, "CPU quota").level is Level.OK
    for file in v2.cgroup.rglob("cpu.max*"):
        file.unlink()

    assert "CONFIG_CFS_BANDWIDTH" in feature(v2, "CPU quota").advice


def test_a_cgroup_without_the_cpu_controller_tells_nothing_about_quotas(v2: Node) -> None:
    for name in ("cpu.max*", "cpu.weight", "cpu.idle"):
        for file in v2.cgroup.rglob(name):
            file.unlink()

    assert feature(v2, "CPU quota").level is Level.OK


# Permissions and namespaces.


def status(node: Node, effective: str) -> None:
    (node.proc / "self/status").write_text(f"Name:\tcgwatch\nCapEff:\t{effective}\n")


def test_root_with_its_capabilities_is_well(v2: Node) -> None:
    status(v2, "000001ffffffffff")

    assert only(privileges.capabilities(v2.host)).level is Level.OK


def test_each_capability_that_is_lacking_is_named_with_its_purpose(v2: Node) -> None:
    status(v2, f"{1 << 1 | 1 << 34:016x}")

    finding = only(privileges.capabilities(structs.replace(v2.host, euid=1000)))

    assert finding.level is Level.NOTE
    assert finding.found == "user 1000 without CAP_SYS_PTRACE (network counters of other users' processes)"


@given(st.binary())
def test_any_status_gives_capabilities_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(privileges.parse_capabilities(data), int)


def test_namespaces_of_containers_that_can_be_read_are_well(v2: Node) -> None:
    finding = only(privileges.network_namespaces(v2.host, v2.survey()))

    assert (finding.level, finding.found) == (Level.OK, "the namespaces of 3 containers can be told apart")


def test_namespaces_that_may_not_be_read_cost_the_network_counters(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(proc_root: str, pid: int) -> int:
        raise AccessDeniedError(f"{proc_root}/{pid}/ns/net", "Permission denied")

    survey = v2.survey()
    monkeypatch.setattr(privileges, "network_namespace", refuse)  # root is refused nothing

    finding = only(privileges.network_namespaces(v2.host, survey))

    assert finding.level is Level.WARNING
    assert "of 3 of 3 containers may not be read" in finding.found
    assert "all metrics of the group network" in finding.consequence
    assert "CAP_SYS_PTRACE" in finding.advice


@pytest.mark.parametrize(
    ("number", "second", "level", "found"),
    [
        (4026531836, "kthreadd\n", Level.OK, "the node's own"),
        (4026531836, "gunicorn\n", Level.OK, "the node's own"),
        (4026532001, "sh\n", Level.WARNING, "shows only the processes in it"),
        (4026532001, "kthreadd\n", Level.WARNING, "is the node's"),
    ],
)
def test_a_pid_namespace_of_its_own_costs_network_counters(
    v2: Node, number: int, second: str, level: Level, found: str
) -> None:
    (v2.proc / "self/ns").mkdir()
    (v2.proc / "self/ns/pid").symlink_to(f"pid:[{number}]")
    (v2.proc / "2").mkdir(exist_ok=True)
    (v2.proc / "2/comm").write_text(second)

    finding = only(namespaces.pid_namespace(v2.host))

    assert finding.level is level
    assert found in finding.found


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ("rw", Level.OK),
        ("rw,hidepid=0", Level.OK),
        ("rw,hidepid=2", Level.NOTE),
        ("hidepid=invisible", Level.NOTE),
    ],
)
def test_a_proc_that_hides_processes_is_noted(v2: Node, options: str, level: Level) -> None:
    (v2.proc / "self/mountinfo").write_text(f"22 1 0:21 / {v2.proc} rw - proc proc {options}\n")

    assert only(privileges.hidden_processes(v2.host)).level is level


# Open files.


def test_open_files_within_the_limit_are_well(v2: Node) -> None:
    finding = only(resources.descriptors(v2.host, structs.replace(v2.survey(), descriptors_budget=1000)))

    assert finding.level is Level.OK
    assert "limit of this process 1,024 soft, 4,096 hard" in finding.found
    assert "of 1,000 kept open for 5 cgroups" in finding.found


def test_open_files_that_fill_most_of_the_limit_are_noted_with_the_room_left(v2: Node) -> None:
    survey = structs.replace(v2.survey(), descriptors_kept=100, descriptors_budget=120)

    finding = only(resources.descriptors(v2.host, survey))

    assert finding.level is Level.NOTE
    assert "room for about 1 cgroup more" in finding.consequence


def test_cgroups_past_the_limit_on_open_files_are_a_warning(v2: Node) -> None:
    settings = structs.replace(v2.settings, sampling=Sampling(descriptors=10))

    finding = only(resources.descriptors(v2.host, v2.survey(settings)))

    assert finding.level is Level.WARNING
    assert finding.found.startswith("10 of 10 kept open")
    assert "LimitNOFILE=" in finding.advice
    assert "--ulimit nofile=" in finding.advice


# Docker.


def asking(node: Node, url: str, timeout_seconds: float = 5) -> Host:
    docker = Docker(socket=url, timeout_seconds=timeout_seconds)
    return structs.replace(node.host, settings=structs.replace(node.settings, discovery=Discovery(docker)))


@pytest.fixture
def fake_docker(tmp_path: Path) -> Iterator[FakeDocker]:
    daemon = FakeDocker(tmp_path / "docker.sock")
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_docker_that_answers_is_well(v2: Node, fake_docker: FakeDocker) -> None:
    finding = only(runtimes.docker(asking(v2, fake_docker.url), v2.survey()))

    assert finding.level is Level.OK
    assert finding.found.startswith(f"{fake_docker.url} answers: ")
    assert "API 1.41" in finding.found


def test_a_docker_that_hangs_is_given_up_after_the_timeout(v2: Node, fake_docker: FakeDocker) -> None:
    fake_docker.freeze()

    finding = only(runtimes.docker(asking(v2, fake_docker.url, 0.2), v2.survey()))

    assert finding.level is Level.WARNING
    assert finding.found == f"{fake_docker.url} takes connections, and does not answer within 0.2 s"


def test_a_docker_that_is_not_there_matters_where_there_are_containers_of_it(
    v2: Node, tmp_path: Path
) -> None:
    host, survey = asking(v2, f"unix://{tmp_path}/none.sock"), v2.survey()
    root_alone = structs.replace(
        survey, snapshot=structs.replace(survey.snapshot, samples=survey.snapshot.samples[:1])
    )

    missed = only(runtimes.docker(host, survey))
    unneeded = only(runtimes.docker(host, root_alone))

    assert (missed.level, unneeded.level) == (Level.WARNING, Level.NOTE)
    assert missed.found == f"{tmp_path}/none.sock is not there"
    assert missed.consequence.startswith("3 containers of Docker: no labels name, image")
    assert f"-v {tmp_path}/none.sock:{tmp_path}/none.sock" in missed.advice


def test_a_docker_that_died_left_its_socket(v2: Node, fake_docker: FakeDocker) -> None:
    fake_docker.stop()

    finding = only(runtimes.docker(asking(v2, fake_docker.url), v2.survey()))

    assert finding.level is Level.WARNING
    assert finding.found.endswith("is there, and nobody listens")


@as_root
def test_a_docker_that_this_user_may_not_ask_is_a_matter_of_its_group(
    v2: Node, fake_docker: FakeDocker
) -> None:
    fake_docker.path.chmod(0o600)
    survey = v2.survey()

    with as_nobody():
        finding = only(runtimes.docker(asking(v2, fake_docker.url), survey))

    assert finding.level is Level.WARNING
    assert finding.found.endswith("permission denied")
    assert "group (docker)" in finding.advice


def test_a_docker_that_is_not_wanted_is_not_asked(v2: Node) -> None:
    assert only(runtimes.docker(v2.host, v2.survey())).level is Level.OK


# Sockets and directories of the agent.


def listening_on(node: Node, listen: str) -> Host:
    return structs.replace(node.host, settings=structs.replace(node.settings, listen=listen))


@contextlib.contextmanager
def serving(page: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_free_address_is_well_and_free_afterwards(v2: Node) -> None:
    assert only(services.listen_address(v2.host)).level is Level.OK


def test_an_agent_that_listens_already_is_recognised(v2: Node) -> None:
    with serving(landing_page(About("1.2.3", "node", ()))) as address:
        finding = only(services.listen_address(listening_on(v2, address)))

    assert (finding.level, finding.found) == (Level.OK, f"{address}: an agent answers there (cgwatch 1.2.3)")


def test_an_address_that_another_program_has_is_a_warning(v2: Node) -> None:
    with serving("nginx") as address:
        finding = only(services.listen_address(listening_on(v2, address)))

    assert finding.level is Level.WARNING
    assert finding.found == f"{address} is in use"
    assert finding.consequence == "the agent cannot start"


def test_an_address_of_another_machine_is_a_warning(v2: Node) -> None:
    finding = only(services.listen_address(listening_on(v2, "192.0.2.1:9753")))

    assert finding.level is Level.WARNING
    assert "--listen" in finding.advice


@pytest.mark.parametrize(
    ("text", "level"), [("oom_kill 7\n", Level.OK), ("nr_free_pages 1\n", Level.NOTE), (None, Level.WARNING)]
)
def test_the_nodes_count_of_oom_kills_is_looked_for(v2: Node, text: str | None, level: Level) -> None:
    (v2.proc / "vmstat").unlink(missing_ok=True)
    if text is not None:
        (v2.proc / "vmstat").write_text(text)
    finding = only(oom.oom_node_counter(v2.host))
    assert finding.level is level
    assert bool(finding.consequence) is (level is not Level.OK)


def test_cgroups_that_do_not_count_their_own_oom_kills_are_noted(v2: Node) -> None:
    assert only(oom.oom_counters(v2.host, v2.survey())).level is Level.OK
    for directory in v2.containers():
        (directory / "memory.events.local").unlink()
    finding = only(oom.oom_counters(v2.host, v2.survey()))
    assert finding.level is Level.NOTE
    assert f"{len(v2.containers())} of" in finding.found
    assert "5.2" in finding.advice


def test_on_v2_the_kernel_tells_of_kills_by_inotify(v2: Node) -> None:
    assert only(oom.oom_notices(v2.host, v2.survey())).level is Level.OK


def test_on_v1_it_takes_a_file_that_can_be_written(v1: Node) -> None:
    finding = only(oom.oom_notices(v1.host, v1.survey()))
    assert finding.level is Level.WARNING
    assert "next tick" in finding.consequence
    (v1.cgroup / "memory" / "cgroup.event_control").write_text("")
    assert only(oom.oom_notices(v1.host, v1.survey())).level is Level.OK


def test_who_wants_no_ledger_is_told_nothing_of_its_sources(v2: Node) -> None:
    host = structs.replace(v2.host, settings=structs.replace(v2.settings, oom=Oom(enabled=False)))
    assert worse_than_ok(oom.oom_node_counter(host)) == []
    assert worse_than_ok(oom.oom_counters(host, v2.survey())) == []
    assert worse_than_ok(oom.oom_notices(host, v2.survey())) == []


def in_state(node: Node, directory: Path) -> Host:
    return structs.replace(node.host, settings=structs.replace(node.settings, state_dir=str(directory)))


def test_a_state_directory_that_can_be_written_or_made_is_well_and_is_not_made(v2: Node) -> None:
    wanted = v2.state / "a/b"

    assert only(services.state_directory(v2.host)).found.endswith("can be written")
    assert only(services.state_directory(in_state(v2, wanted))).found.endswith("can be made")
    assert not wanted.parent.exists()


def test_a_state_directory_below_a_file_is_a_warning(v2: Node) -> None:
    (v2.state / "file").write_text("")

    finding = only(services.state_directory(in_state(v2, v2.state / "file")))

    assert (finding.level, finding.found) == (Level.WARNING, f"{v2.state}/file is not a directory")


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_state_directory_that_this_user_may_not_write_is_a_warning(v2: Node, mode: int) -> None:
    v2.state.chmod(mode)
    host = in_state(v2, v2.state / "a/b")

    with as_nobody():
        finding = only(services.state_directory(host))

    assert finding.level is Level.WARNING
    assert finding.found.endswith("cannot be written")
    assert "StateDirectory=cgwatch" in finding.advice


def test_a_control_socket_tells_whether_an_agent_listens(v2: Node) -> None:
    path = v2.state / "control.sock"
    assert only(services.control_socket(v2.host)).found == f"{path}: no agent listens"

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert only(services.control_socket(v2.host)).found == f"{path}: an agent listens"

    leftover = only(services.control_socket(v2.host))
    assert leftover.level is Level.OK
    assert "leftover" in leftover.found


def test_a_control_socket_that_cannot_be_is_a_warning(v2: Node) -> None:
    (v2.state / "control.sock").write_text("")

    assert only(services.control_socket(v2.host)).level is Level.WARNING
    assert only(services.control_socket(in_state(v2, v2.state / ("x" * 120)))).level is Level.WARNING


# The machine.


def test_the_kernel_is_named(v2: Node) -> None:
    assert only(machine.kernel(v2.host, v2.survey())).found == "6.1.176"


def test_a_kernel_without_a_version_is_a_warning(v2: Node) -> None:
    v2.is_kernel("rolling")

    assert only(machine.kernel(v2.host, v2.survey())).level is Level.WARNING


def test_labels_of_the_machine_that_stay_empty_are_noted(v2: Node) -> None:
    survey = v2.survey()
    known = survey.snapshot.machine
    assert known
    nameless = structs.replace(known, machine_id="", system_uuid="")
    (v2.sys / "class/dmi/id").mkdir(parents=True)
    (v2.sys / "class/dmi/id/product_uuid").touch()

    def said(node: Machine) -> list[Level]:
        snapshot = structs.replace(survey.snapshot, machine=node)
        return [f.level for f in machine.identity(v2.host, structs.replace(survey, snapshot=snapshot))]

    assert said(nameless) == [Level.NOTE, Level.NOTE]
    assert said(structs.replace(known, machine_id="a", system_uuid="b")) == [Level.OK, Level.OK]


def test_a_machine_without_firmware_tables_gets_no_advice_on_its_uuid(v2: Node) -> None:
    survey = v2.survey()
    machine_said = survey.snapshot.machine
    assert machine_said
    snapshot = structs.replace(survey.snapshot, machine=structs.replace(machine_said, system_uuid=""))

    finding = list(machine.identity(v2.host, structs.replace(survey, snapshot=snapshot)))[-1]

    assert (finding.level, finding.advice) == (Level.NOTE, "")
    assert finding.found.startswith("this machine has no ")


def test_a_kernel_log_that_cannot_be_opened_is_noted(v2: Node) -> None:
    finding = only(machine.kernel_log(v2.host))
    assert (finding.level, finding.found) == (Level.NOTE, f"{v2.dev}/kmsg: No such file or directory")

    (v2.dev / "kmsg").write_text("")
    assert only(machine.kernel_log(v2.host)).level is Level.OK


# All together.


def test_without_cgroups_the_other_checks_still_run(v2: Node, tmp_path: Path) -> None:
    nowhere = structs.replace(v2.settings, roots=Roots(str(tmp_path / "nowhere"), str(v2.proc)))
    status(v2, "000001ffffffffff")

    examination = examine(structs.replace(v2.host, settings=nowhere), assembly.open_sampler)

    assert not examination.has_cgroups
    first, *others = examination.findings
    assert (first.level, first.consequence) == (Level.ERROR, "nothing can be sampled")
    assert {finding.subject for finding in others} >= {"permissions", "listen address", "state directory"}


def test_without_a_mount_table_nothing_can_be_sampled(v2: Node) -> None:
    (v2.proc / "self/mountinfo").unlink()

    examination = examine(v2.host, assembly.open_sampler)

    assert examination.has_cgroups
    assert examination.findings[0].level is Level.ERROR
    assert "mountinfo" in examination.findings[0].found


def test_a_check_that_cannot_read_its_file_is_a_finding_and_no_end(v2: Node) -> None:
    findings = examine(v2.host, assembly.open_sampler).findings

    failed = only(f for f in findings if f.subject == "capabilities")
    assert (failed.level, failed.consequence) == (Level.WARNING, "this could not be checked")
    assert str(v2.proc / "self/status") in failed.found
    assert findings[-1].subject == "control socket"


@pytest.mark.parametrize("name", ["docker_v1", "docker_v2", "hybrid", "systemd_v2"])
def test_whatever_is_worse_than_ok_says_what_it_costs(tmp_path: Path, name: str) -> None:
    node = Node(tmp_path, name)

    findings = examine(node.host, assembly.open_sampler).findings

    assert len(findings) > len(SURVEY_CHECKS)
    assert all(finding.consequence for finding in worse_than_ok(findings))
    assert all(finding.found.isascii() for finding in findings)


def test_the_survey_lets_go_of_every_file(v2: Node) -> None:
    before = os.listdir("/proc/self/fd")
    v2.survey()

    assert os.listdir("/proc/self/fd") == before


def test_no_cgroups_at_all_are_an_error_of_the_survey(v2: Node) -> None:
    settings = structs.replace(v2.settings, roots=Roots("/proc/self", str(v2.proc)))

    with pytest.raises(NoCgroupsError):
        v2.survey(settings)
