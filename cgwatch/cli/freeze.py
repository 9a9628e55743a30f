"""``cgwatch freeze`` and ``cgwatch thaw``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cgwatch.change import Request
from cgwatch.cli.acting import actor
from cgwatch.cli.limit_verbs import carried_out, format_option, names_argument, reason_option, time_and_reason
from cgwatch.cli.options import settings_options
from cgwatch.settings import Settings

_KEY = "cgroup.freeze"


@click.command()
@names_argument
@time_and_reason
@format_option
@settings_options
def freeze(
    settings: Settings,
    *,
    names: Sequence[str],
    everything: bool,
    for_seconds: float | None,
    reason: str,
    output: str,
) -> None:
    """Let all processes of a container stand still, with what they hold.

    They go on with "cgwatch thaw", or by themselves when the time of --for is over.
    """
    _switch(settings, names, 1, for_seconds, reason, output, everything=everything)


@click.command()
@names_argument
@reason_option
@format_option
@settings_options
def thaw(settings: Settings, *, names: Sequence[str], everything: bool, reason: str, output: str) -> None:
    """Let the processes of a frozen container go on."""
    _switch(settings, names, 0, None, reason, output, everything=everything)


def _switch(
    settings: Settings,
    names: Sequence[str],
    value: int,
    for_seconds: float | None,
    reason: str,
    output: str,
    *,
    everything: bool,
) -> None:
    carried_out(
        settings,
        names,
        output,
        lambda hands, each: hands.apply(Request(each.target, {_KEY: value}, actor(), reason, for_seconds)),
        everything=everything,
    )
