"""``cgwatch policy``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cgwatch.cli import Exit
from cgwatch.errors import ConfigError
from cgwatch.placed_yaml import MAX_BYTES
from cgwatch.policy.language import Source, check_policies
from cgwatch.policy.terms import METRICS
from cgwatch.policy.written import policy_schema


@click.group()
def policy() -> None:
    """Check policies: limits that rewrite themselves."""


@policy.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...]) -> None:
    """Check files as the agent would read them together; with errors, exit code 2."""
    checked = check_policies([_source(path) for path in files])
    for error in checked.errors:
        click.echo(f"cgwatch: {error}", err=True)
    if checked.errors:
        context.exit(Exit.USAGE)
    count = len(checked.policies.policies)
    rules = sum(len(each.rules) for each in checked.policies.policies)
    click.echo(f"{_counted(count, 'policy', 'policies')}, {_counted(rules, 'rule', 'rules')}: valid.")


def _source(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            return Source(str(path), file.read(MAX_BYTES + 1))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


@policy.command()
@click.option("--metrics", is_flag=True, help="List what a condition can look at, instead.")
def schema(*, metrics: bool) -> None:
    """Print the JSON Schema of a policy file, for editors."""
    if not metrics:
        click.echo(json.dumps(policy_schema(), indent=2))
        return
    width = max(map(len, METRICS))
    for metric in METRICS.values():
        click.echo(f"{metric.name:<{width}}  {metric.measure:<16}  {metric.description}")
