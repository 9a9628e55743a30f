"""``cgwatch version``."""

from __future__ import annotations

import json
import platform

import click

from cgwatch import __version__


@click.command()
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def version(output: str) -> None:
    """Print the versions of cgwatch and of what it runs on."""
    versions = {
        "cgwatch": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "platform": platform.platform(),
    }
    if output == "json":
        click.echo(json.dumps(versions))
    else:
        click.echo("\n".join(f"{name} {value}" for name, value in versions.items()))
