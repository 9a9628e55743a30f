from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import Exit, cli
from cgwatch.cli import metrics as verb
from cgwatch.cli.metrics import AGENT, listed
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from tests.golden.pages import ALL_TREES, TREES, TREES_FOLDER, descriptions, golden
from tests.golden.reading import series_of, types_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.golden.reading import Series

LABELS_OF_DOCKER = {"name", "image", "container_label_com_docker_compose_service"}
WITHOUT_DOCKER = {"CGWATCH_DISCOVERY_DOCKER_ENABLED": "false"}


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    runner = CliRunner(env={**WITHOUT_DOCKER, "COLUMNS": "100", **(environ or {})})
    return runner.invoke(cli, ["metrics", *arguments], prog_name="cgwatch")


def run_on(tree: str, *arguments: str, environ: dict[str, str] | None = None) -> Result:
    roots = (
        f"--cgroup-root={TREES_FOLDER / tree / 'cgroup'}",
        f"--proc-root={TREES_FOLDER / tree / 'proc'}",
        f"--sys-root={TREES_FOLDER / tree / 'sys'}",
    )
    return run(*roots, *arguments, environ={"CGWATCH_METRICS_INCLUDE": "*", **(environ or {})})


# The list against the pages.


ON_NO_PAGE = {
    "the containers run and have no health check": {
        *("container_exit_code", "container_finished_time_seconds", "container_health_status"),
    },
    "a file system is the running machine's, not a tree's": {
        f"container_fs_{what}" for what in ("usage_bytes", "limit_bytes", "inodes_total", "inodes_free")
    },
    "neither a scheduler nor iocost keeps times, and the trees do not say which disks are whole": {
        *(f"container_fs_io_cost_{what}_seconds_total" for what in ("usage", "wait", "indebt", "indelay")),
        *(f"container_fs_io_{what}" for what in ("current", "time_seconds_total")),
        "container_fs_io_time_weighted_seconds_total",
        *(f"container_fs_{what}" for what in ("read_seconds_total", "reads_merged_total")),
        *(f"container_fs_{what}" for what in ("write_seconds_total", "writes_merged_total")),
    },
    "the trees do not say which huge pages there are": {
        *(f"container_hugetlb_{what}" for what in ("failcnt", "max_usage_bytes", "usage_bytes")),
        "container_spec_hugetlb_limit_bytes",
    },
    "no container has such a bound": {
        *(f"container_memory_{what}_total" for what in ("events_low", "swap_events_high")),
        *("container_spec_cpu_burst_seconds", "container_spec_memory_low_bytes"),
        "container_spec_memory_swap_high_bytes",
        *(
            f"container_spec_io_{what}_per_second"
            for what in ("read_bytes", "reads", "write_bytes", "writes")
        ),
    },
    "the kernels are built without irq time accounting": {
        "container_pressure_irq_stalled_seconds_total",
        *(f"machine_pressure_irq_stalled_{what}" for what in ("ratio", "seconds_total")),
    },
    "no driver watches the memory modules": {"machine_dimm_capacity_bytes", "machine_dimm_count"},
}


def test_every_metric_of_a_container_or_the_node_is_listed_and_on_some_golden_page_or_it_is_known_why() -> (
    None
):
    shown = {name for tree in ALL_TREES for name in types_of(golden(tree, Format.TEXT).read_text())}
    missing = set().union(*ON_NO_PAGE.values())

    assert {each.name for each in listed() if each.group != AGENT} == shown | missing
    assert shown.isdisjoint(missing)


def test_every_metric_of_the_agent_is_listed() -> None:
    page = OwnMetrics().page(Format.TEXT).decode()
    of_the_agent = {each.name: each.type for each in listed() if each.group == AGENT}

    assert types_of(page).items() <= of_the_agent.items()
    assert {"cgwatch_containers", "cgwatch_descriptors_kept", "process_open_fds"} <= of_the_agent.keys()
    assert all(each.help for each in listed())


# The list.


def test_the_list_as_json_has_everything_that_the_catalogue_says() -> None:
    result = run("--list", "--format", "json")

    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == [each.name for each in listed()]
    assert rows[: len(FAMILIES)] == [
        {
            "name": family.name,
            "type": family.type,
            "group": family.group,
            "labels": list(family.labels),
            "source": family.source,
            "absent": family.absent,
            "help": family.help,
        }
        for family in FAMILIES
    ]


@pytest.mark.parametrize("columns", [100, 80, 250])
def test_the_table_fits_the_terminal_and_leaves_nothing_out(columns: int) -> None:
    result = run("--list", environ={"COLUMNS": str(columns)})

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    words = " ".join(result.stdout.split())
    for each in listed():
        labels = f"labels: {', '.join(each.labels)} " if each.labels else ""
        absent = f" absent: {each.absent}" if each.absent else ""
        group = each.group or "always"
        assert f"{each.name} {each.type} {group} {each.help} {labels}from: {each.source}{absent}" in words


def test_the_list_as_markdown_is_one_table() -> None:
    result = run("--list", "--format", "markdown")

    assert result.exit_code == 0
    title, rule, *rows = result.stdout.splitlines()
    assert {len(re.split(r"(?<!\\)\|", line)) for line in (title, rule, *rows)} == {9}
    assert [row.split("`")[1] for row in rows] == [each.name for each in listed()]


def test_the_list_can_be_of_some_metrics() -> None:
    result = run("--list", "--format", "json", "--name", "container_processes", "--name", "cgwatch_cgroups")

    assert [row["name"] for row in json.loads(result.stdout)] == ["container_processes", "cgwatch_cgroups"]


def test_the_list_needs_no_server_and_no_cgroups() -> None:
    code = (
        "import sys\n"
        "from cgwatch.cli import cli\n"
        "try: cli(['metrics', '--list', '--cgroup-root', '/nowhere'], prog_name='cgwatch')\n"
        "except SystemExit as end: print(end.code, {'uvicorn', 'docker'}.intersection(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.stdout.splitlines()[-1] == "0 set()"


# The page.

# What follows from more than the tree: the clock, Docker, kernel threads (see tests.golden.pages), a ledger.
NOT_OF_THE_TREE = (
    "container_last_seen",
    "container_creation_time",
    "container_start_time",
    "container_network_",
    "container_oom_events_total",
)


def of_the_tree(page: str, form: Format) -> dict[Series, float]:
    """Give the containers' series without the labels that Docker told."""
    return {
        (name, frozenset((key, value) for key, value in labels if key not in LABELS_OF_DOCKER)): number
        for (name, labels), number in series_of(page, form).items()
        if name.startswith("container_") and not name.startswith(NOT_OF_THE_TREE)
    }


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("form", Format)
def test_the_page_is_that_of_an_agent(tree: str, form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "described_by_docker", lambda _: descriptions(tree))
    result = run_on(tree, "--format", form.value)

    assert (result.exit_code, result.stderr) == (0, "")
    assert of_the_tree(result.stdout, form) == of_the_tree(golden(tree, form).read_text(), form) != {}


def test_without_a_format_the_page_is_text() -> None:
    result = run_on("docker_v2", "--name", "container_memory_failcnt")

    assert result.stdout.startswith("# HELP container_memory_failcnt ")
    assert "# TYPE container_memory_failcnt counter\n" in result.stdout


def test_names_come_from_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "described_by_docker", lambda _: descriptions("docker_v2"))
    result = run_on("docker_v2", "--name", "container_processes")

    found = {dict(labels)["id"]: dict(labels)["name"] for _, labels in series_of(result.stdout, Format.TEXT)}
    assert found == {"/": "", "/docker": ""} | {
        f"/docker/{container_id}": said.name for container_id, said in descriptions("docker_v2").items()
    }


def test_a_page_may_be_of_some_families_in_the_order_of_the_catalogue() -> None:
    result = run_on("docker_v2", "--name", "container_threads", "--name", "container_processes")

    assert result.exit_code == 0
    assert list(types_of(result.stdout)) == ["container_processes", "container_threads"]


@pytest.mark.parametrize("name", ["container_memory_pgscan_total", "container_memory_pgscan"])
def test_a_counter_of_openmetrics_may_go_by_the_name_of_its_family(name: str) -> None:
    result = run_on("docker_v2", "--format", "openmetrics", "--name", name)

    assert types_of(result.stdout) == {"container_memory_pgscan": "counter"}
    assert result.stdout.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("name", "environ", "reason"),
    [
        ("container_memory_pgscan_total", {}, "no series here; it is absent on cgroup v1"),
        ("cgwatch_cgroups", {}, "of a running agent alone; scrape one for it"),
        (
            "container_threads",
            {"CGWATCH_METRICS_INCLUDE": ""},
            "the group is off; see metrics.groups.process",
        ),
    ],
)
def test_a_metric_that_is_not_on_the_page_says_why(name: str, environ: dict[str, str], reason: str) -> None:
    result = run_on("docker_v1", "--name", name, "--name", "container_last_seen", environ=environ)
    alone = run_on("docker_v1", "--name", name, environ=environ)

    assert result.exit_code == 0
    assert list(types_of(result.stdout)) == ["container_last_seen"]
    assert result.stderr == f"cgwatch: {name}: {reason}\n"
    assert (alone.exit_code, alone.stdout, alone.stderr) == (Exit.NOTHING, "", result.stderr)


def test_a_file_that_cannot_be_understood_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    shutil.copytree(TREES_FOLDER / "docker_v2", tmp_path / "tree", symlinks=True)
    broken = tmp_path / "tree/cgroup/docker/memory.current"
    broken.write_text("many\n")
    result = run(
        f"--cgroup-root={tmp_path / 'tree/cgroup'}",
        f"--proc-root={tmp_path / 'tree/proc'}",
        f"--sys-root={tmp_path / 'tree/sys'}",
        "--name=container_memory_usage_bytes",
    )

    assert result.exit_code == 0
    assert str(broken) in result.stderr
    assert len(series_of(result.stdout, Format.TEXT)) == 4


# Wrong usage.


def test_an_unknown_metric_is_an_error_that_names_the_closest_one() -> None:
    result = run("--name", "container_memory_usage")

    assert result.exit_code == Exit.USAGE
    assert 'no metric "container_memory_usage"; did you mean container_memory_usage_bytes?' in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--list", "--format", "text"), ("--format", "json"), ("--format", "table")]
)
def test_a_format_of_the_other_kind_is_an_error(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (Exit.USAGE, "")
    assert f"The format {arguments[-1]} is for" in result.stderr


def test_without_cgroups_there_is_no_page(tmp_path: Path) -> None:
    result = run("--cgroup-root", str(tmp_path))

    assert (result.exit_code, result.stdout) == (Exit.NOTHING, "")
    assert result.stderr.startswith("cgwatch: no cgroup hierarchy under")


def test_names_are_completed() -> None:
    completions = verb._complete(click.Context(verb.metrics), verb.metrics.params[0], "container_threads")

    assert [item.value for item in completions] == ["container_threads", "container_threads_max"]
