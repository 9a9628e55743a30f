"""``cgwatch set-limit``."""

from __future__ import annotations

from collections.abc import Sequence

import click
from msgspec import structs

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.limit_files import versions
from cgwatch.change import Report, Request, Via
from cgwatch.cli.acting import Hands, actor
from cgwatch.cli.limit_flags import limit_options, wanted
from cgwatch.cli.limit_list import list_option
from cgwatch.cli.limit_verbs import carried_out, format_option, names_argument, time_and_reason
from cgwatch.cli.options import settings_options
from cgwatch.cli.usage_table import printable
from cgwatch.errors import LimitValueError
from cgwatch.limits.resolve import Candidate
from cgwatch.settings import Settings


@click.command(
    epilog="""\b
cgwatch set-limit web --memory 512m --for 10m
cgwatch set-limit web --set memory.high=400MiB --set 'io.max=8:0 rbps=1MiB'
cgwatch set-limit 'worker-*' --all --cpus 0.5 --dry-run
"""
)
@names_argument
@limit_options
@time_and_reason
@click.option(
    "--via",
    type=click.Choice([each.value for each in Via]),
    default=Via.AUTO.value,
    show_default=True,
    help="By which way it is written; auto: by the one that its owner knows of, so that it stays.",
)
@click.option("--force", is_flag=True, help="Also where that kills processes; it is said which before.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, step by step; change nothing.")
@format_option
@list_option
@settings_options
def set_limit(  # noqa: PLR0913 - one for each flag
    settings: Settings,
    *,
    names: Sequence[str],
    everything: bool,
    for_seconds: float | None,
    reason: str,
    via: str,
    force: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Change limits of containers, pods, systemd units or other cgroups.

    It is checked before, written in an order that the kernel takes, by the way that its owner knows of, read
    back, and undone when its time is over. NAME is a name, how an id begins, a pod, a path or a glob. The
    exit code is 0 only if every limit is what was asked for.
    """
    limits = wanted(versions(hierarchy.find(settings.roots.proc, settings.roots.cgroup)))
    if not limits:
        raise LimitValueError(
            "set-limit", "say what to limit, such as --memory 512m or --set pids.max=100; --list shows all"
        )

    def request(each: Candidate) -> Request:
        return Request(
            each.target, limits, actor(), reason, for_seconds, Via(via), force=force, dry_run=dry_run
        )

    def work(hands: Hands, each: Candidate) -> Report:
        wanted = request(each)
        if force and not dry_run:
            for warning in hands.apply(structs.replace(wanted, dry_run=True)).warnings:
                click.echo(f"cgwatch: --force: {printable(warning)}", err=True)
        return hands.apply(wanted)

    carried_out(settings, names, output, work, everything=everything)
