from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import Exit, cli
from cgwatch.cli.doctor import exit_code, table
from cgwatch.doctor import Examination, Finding, Level
from tests.real.needs import require
from tests.real.uml import run_in_uml, uml_available

TREE = Path(__file__).parents[1] / "trees/docker_v2"

FINDINGS = (
    Finding(Level.OK, "kernel", "6.1.0"),
    Finding(Level.NOTE, "peak memory", "not given", "missing: a metric", "use a newer kernel"),
    Finding(Level.ERROR, "cgroups", "none", "nothing can be sampled", "mount them"),
    Finding(Level.WARNING, "Docker", "hangs", "no names", "restart it"),
)


def run(*arguments: str, tree: Path = TREE) -> Result:
    roots = ("--cgroup-root", str(tree / "cgroup"), "--proc-root", str(tree / "proc"))
    return CliRunner(env={"COLUMNS": "80"}).invoke(
        cli, ["doctor", *roots, "--listen", "127.0.0.1:0", *arguments], prog_name="cgwatch"
    )


def findings(text: str) -> dict[str, dict[str, Any]]:
    return {finding["subject"]: finding for finding in json.loads(text)}


def test_the_worst_comes_first_with_its_consequence_and_the_advice() -> None:
    assert table(FINDINGS, 80, verbose=False) == [
        "FAIL  cgroups: none",
        "      nothing can be sampled",
        "      -> mount them",
        "WARN  Docker: hangs",
        "      no names",
        "      -> restart it",
        "note  peak memory: not given",
        "      missing: a metric",
        "      -> use a newer kernel",
        "1 error, 1 warning, 1 note; 1 ok (--verbose shows them)",
    ]


def test_verbose_shows_what_is_well_at_the_end() -> None:
    lines = table(FINDINGS, 80, verbose=True)

    assert lines[-2:] == ["ok    kernel: 6.1.0", "1 error, 1 warning, 1 note; 1 ok"]


def test_long_texts_are_wrapped_below_each_other_and_paths_stay_whole() -> None:
    path = "/sys/fs/cgroup/" + "x" * 70
    lines = table(
        (Finding(Level.NOTE, "view", f"only a part of the tree is at {path} here"),), 80, verbose=False
    )

    assert lines[:3] == ["note  view: only a part of the tree is at", f"      {path}", "      here"]


@pytest.mark.parametrize(
    ("levels", "has_cgroups", "code"),
    [
        ((), True, Exit.OK),
        ((Level.NOTE, Level.WARNING), True, Exit.OK),
        ((Level.WARNING, Level.ERROR), True, Exit.FAILURE),
        ((Level.ERROR,), False, Exit.NOTHING),
    ],
)
def test_the_exit_code_tells_whether_the_node_can_be_sampled(
    *, levels: tuple[Level, ...], has_cgroups: bool, code: Exit
) -> None:
    found = tuple(Finding(level, "subject", "found") for level in levels)

    assert exit_code(Examination(found, has_cgroups)) is code


def test_the_table_fits_a_terminal_and_is_plain_ascii() -> None:
    result = run("--verbose")

    assert result.exit_code == 0
    assert result.output.isascii()
    for line in result.output.splitlines():
        assert len(line) <= 80 or len(line.split()) == 1, line


def test_json_holds_every_finding() -> None:
    result = run("--format", "json")

    assert result.exit_code == 0
    found = findings(result.output)
    assert found["kernel"] == {
        "level": "ok",
        "subject": "kernel",
        "found": "6.1.176",
        "consequence": "",
        "advice": "",
    }
    assert found["pressure (PSI)"]["level"] == "warning"


def test_a_node_without_cgroups_ends_with_exit_code_3_and_still_says_the_rest(tmp_path: Path) -> None:
    shutil.copytree(TREE / "proc", tmp_path / "proc", symlinks=True)

    result = run(tree=tmp_path)

    assert result.exit_code == 3
    assert result.output.startswith("FAIL  cgroups:")
    assert result.output.splitlines()[-1].startswith("1 error, ")


# Real nodes.


def doctor(*before: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [*before, sys.executable, "-m", "cgwatch", "doctor", "--format", "json", "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return findings(done.stdout)


def need(*commands: str) -> None:
    missing = [command for command in commands if not shutil.which(command)]
    require("needs root" if os.geteuid() else f"needs {', '.join(missing)}" if missing else None)


@pytest.mark.real
def test_this_node_is_examined_without_an_error() -> None:
    found = doctor()

    assert "error" not in {finding["level"] for finding in found.values()}
    assert found["cgroup layout"]["level"] == "ok"
    assert found["open files"]["found"]


@pytest.mark.real
def test_without_capabilities_the_network_counters_are_said_to_be_missing() -> None:
    need("setpriv")

    found = doctor("setpriv", "--bounding-set=-all", "--inh-caps=-all")

    assert "CAP_SYS_PTRACE" in found["permissions"]["found"]
    assert found["network counters"]["level"] == "warning"


@pytest.mark.real
def test_namespaces_of_its_own_are_noticed() -> None:
    need("unshare")

    found = doctor("unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc")

    assert "shows only the processes in it" in found["pid namespace"]["found"]
    assert "cgroup namespace" in found["cgroup view"]["found"]


PARTIAL = f"""
set -e
mkdir /sys/fs/cgroup/cgwtest-doctor
echo 0 > /sys/fs/cgroup/cgwtest-doctor/cgroup.procs
unshare --cgroup --mount sh -c '
umount /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
{sys.executable} -m cgwatch doctor --format json
'
"""


@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_container_that_sees_its_own_part_of_a_v2_tree_is_told_so() -> None:
    require(uml_available())
    finished = run_in_uml(["sh", "-c", PARTIAL])

    assert finished.status == 0, finished.output
    view = findings(finished.output)["cgroup view"]
    assert view["level"] == "warning"
    assert "private cgroup namespace" in view["found"]
