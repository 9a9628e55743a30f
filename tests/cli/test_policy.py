from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import cli
from cgwatch.policy.terms import METRICS

EXAMPLES = Path(__file__).parents[2] / "config/policies"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", *arguments], prog_name="cgwatch")


def test_valid_policies_are_counted() -> None:
    result = run("check", str(EXAMPLES / "memory-relief.yaml"), str(EXAMPLES / "cpu-relief.yaml"))

    assert (result.exit_code, result.output) == (0, "2 policies, 3 rules: valid.\n")


def test_every_error_is_a_line_on_standard_error_and_the_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "apiVersion: cgwatch/v1\npolicies:\n  - name: a\n    match: {}\n    limits:\n      memory.max: 512\n"
        "      pids.mx: 5\n"
    )

    result = run("check", str(file))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f'cgwatch: {file}:6: $.policies[0].limits["memory.max"]: "512" has no unit; '
        "write 512MiB for mebibytes, or 512B for bytes\n"
        f'cgwatch: {file}:7: $.policies[0].limits["pids.mx"]: '
        "there is no limit 'pids.mx'; is it pids.max?\n"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "none.yaml"))

    assert result.exit_code == 2
    assert "none.yaml: cannot be read: No such file" in result.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_passes_the_check(path: Path) -> None:
    assert run("check", str(path)).exit_code == 0


def test_the_schema_has_every_key_with_the_names_of_the_file() -> None:
    schema = json.loads(run("schema").stdout)
    forms = schema["$defs"]

    assert schema["$ref"] == "#/$defs/Document"
    assert {"apiVersion", "policies", "mode", "defaults", "guards"} == set(forms["Document"]["properties"])
    assert {"when", "do", "clear", "else", "ttl"} <= set(forms["Rule"]["properties"])
    assert {"raise", "by", "ceiling", "notify"} <= set(forms["Do"]["properties"])
    assert not any(form["additionalProperties"] for form in forms.values() if "properties" in form)


def test_the_metrics_of_conditions_are_listed() -> None:
    lines = run("schema", "--metrics").stdout.splitlines()

    assert [line.split()[0] for line in lines] == list(METRICS)
