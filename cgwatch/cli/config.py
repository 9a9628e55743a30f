"""``cgwatch config``."""

from __future__ import annotations

import json

import click

from cgwatch.cli.options import config_options, resolved
from cgwatch.config import render, schema


@click.group()
def config() -> None:
    """Check the configuration."""


@config.command()
@click.option(
    "--schema", "only_schema", is_flag=True, help="Print the file's JSON Schema, and check nothing."
)
@click.option("--print", "show", is_flag=True, help="Print every effective value and where it came from.")
@config_options
def check(*, only_schema: bool, show: bool) -> None:
    """Check file, environment and flags as the agent would read them."""
    if only_schema:
        click.echo(json.dumps(schema(), indent=2))
        return
    settings = resolved()
    click.echo(render(settings) if show else "The configuration is valid.", nl=not show)
