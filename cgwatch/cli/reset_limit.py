"""``cgwatch reset-limit``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cgwatch.cgroup.knobs import KNOBS, knob_of
from cgwatch.cli.limit_verbs import carried_out, format_option
from cgwatch.cli.options import settings_options
from cgwatch.cli.resolving import complete
from cgwatch.settings import Settings


def _complete_limit(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [knob.key for knob in KNOBS if knob.key.startswith(incomplete)]


@click.command()
@click.argument("name", shell_complete=complete)
@click.argument("limits", nargs=-1, metavar="[LIMIT]...", shell_complete=_complete_limit)
@click.option("--all", "everything", is_flag=True, help="NAME may mean several, such as those of a glob.")
@format_option
@settings_options
def reset_limit(
    settings: Settings, *, name: str, limits: Sequence[str], everything: bool, output: str
) -> None:
    """Bring limits back to what they were before the first change.

    Without LIMIT all that were changed by cgwatch. LIMIT is the kernel's name, such as memory.max.
    """
    for limit in limits:
        knob_of(limit)  # raises for what is none
    keys = list(limits) or None
    carried_out(
        settings, [name], output, lambda hands, each: hands.reset(each.target, keys), everything=everything
    )
