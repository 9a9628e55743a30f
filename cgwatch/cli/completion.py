"""``cgwatch completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from cgwatch.cli import cli

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    epilog="""\b
bash: cgwatch completion bash > /etc/bash_completion.d/cgwatch
zsh:  cgwatch completion zsh > "${fpath[1]}/_cgwatch"
fish: cgwatch completion fish > ~/.config/fish/completions/cgwatch.fish
"""
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print the script for a shell's completion."""
    click.echo(_SHELLS[shell](cli, {}, "cgwatch", "_CGWATCH_COMPLETE").source())
