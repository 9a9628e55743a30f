from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import cli

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(cli, ["config", *arguments], prog_name="cgwatch")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cgwatch.yaml"
    path.write_text("sampling:\n  interval: 1m30s\n")
    return path


def test_a_valid_configuration_is_said_to_be_valid(file: Path) -> None:
    result = run("check", "--config", str(file))

    assert (result.exit_code, result.output) == (0, "The configuration is valid.\n")


def test_a_wrong_configuration_is_one_line_on_standard_error_and_exit_code_2(file: Path) -> None:
    file.write_text("sampling:\n  interval: 5 parsecs\n")

    result = run("check", "--config", str(file))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f'cgwatch: {file}:2: $.sampling.interval: "5 parsecs" is not a duration; write it like 5s or 1m30s\n'
    )


def test_print_shows_every_effective_value_and_where_it_came_from(file: Path) -> None:
    result = run(
        *("check", "--print", "--config", str(file), "--log-level", "debug"),
        CGWATCH_SERVER_MAX_REQUESTS="7",
    )

    assert result.exit_code == 0
    assert f"\n  interval: 1m30s  # {file}:2\n" in result.stdout
    assert "\n  max_requests: 7  # CGWATCH_SERVER_MAX_REQUESTS\n" in result.stdout
    assert "\n  level: debug  # --log-level\n" in result.stdout
    assert "\n    diskIO: true  # default\n" in result.stdout


def test_the_variable_cgwatch_config_names_the_file(file: Path) -> None:
    assert f"# {file}:2" in run("check", "--print", CGWATCH_CONFIG=str(file)).stdout


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--cgroup-root", "  cgroup: /there  # --cgroup-root"),
        ("--proc-root", "  proc: /there  # --proc-root"),
        ("--state-dir", "state_dir: /there  # --state-dir"),
    ],
)
def test_the_shared_flags_set_their_keys(flag: str, line: str) -> None:
    assert line in run("check", "--print", flag, "/there").stdout.splitlines()


def test_the_schema_is_printed_even_where_the_configuration_is_wrong() -> None:
    result = run("check", "--schema", CGWATCH_LISTEN="nonsense")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["properties"]["listen"]["default"] == "127.0.0.1:9753"
