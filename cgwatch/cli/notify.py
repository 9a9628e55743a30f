"""``cgwatch notify``."""

from __future__ import annotations

import secrets
import time

import click

from cgwatch.cli import Exit
from cgwatch.cli.options import settings_options
from cgwatch.notify.channel import Channel
from cgwatch.notify.channels import channels_of
from cgwatch.notify.desk import node_of
from cgwatch.notify.message import TEST, Message
from cgwatch.notify.outcome import Delivered
from cgwatch.settings import Settings
from cgwatch.units import format_duration, shortened


@click.group()
def notify() -> None:
    """Try out how people are told of OOM kills."""


@notify.command()
@click.option("--channel", "wanted", metavar="NAME", help="This one alone: webhook, alertmanager-2, ...")
@settings_options
def test(settings: Settings, *, wanted: str | None) -> None:
    """Send a test message to every receiver, at once, and say what became of it.

    No agent need run, and none takes part.
    """
    channels = channels_of(settings.notify, time.time)
    context = click.get_current_context()
    if not channels:
        click.echo(
            "cgwatch: nobody is to be told; set notify.webhook.urls, notify.alertmanager.urls or "
            "notify.log.enabled",
            err=True,
        )
        context.exit(Exit.NOTHING)
    names = [channel.name for channel in channels]
    if wanted is not None and wanted not in names:
        raise click.BadParameter(f"there is no {shortened(wanted)}; there are {', '.join(names)}")
    chosen = [channel for channel in channels if wanted in (None, channel.name)]
    message = _message(node_of(settings.notify))
    went_well = [_try(channel, message) for channel in chosen]
    context.exit(Exit.OK if all(went_well) else Exit.FAILURE)


def _message(node: str) -> Message:
    return Message(
        kind=TEST,
        key=f"{TEST}-{secrets.token_hex(8)}",
        node=node,
        title=f"Test message of cgwatch on {node}",
        text="Nothing happened. Somebody has called cgwatch notify test.",
        seconds=time.time(),
        labels={"name": "cgwatch"},
    )


def _try(channel: Channel, message: Message) -> bool:
    began_seconds = time.monotonic()
    outcome = channel.deliver(message)
    took = format_duration(round(time.monotonic() - began_seconds, 3))
    went_well = isinstance(outcome, Delivered)
    said = f"delivered in {took}" if isinstance(outcome, Delivered) else f"failed: {outcome.problem}"
    click.echo(f"{channel.name} ({channel.receiver}): {said}")
    return went_well
