"""Alerts that fire and are resolved, as Alertmanager's API v2 has them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from cgwatch.notify.message import Message

RESEND_SECONDS = 60.0
"""Alertmanager keeps no alerts over a restart: as often as Prometheus tells it again."""


class Alert(Struct, frozen=True):
    """One alert of one Alertmanager. It is kept in the database: a new field has to have a default."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_seconds: float
    until_seconds: float
    """When it is resolved, since the epoch."""
    sent_seconds: float

    def due_seconds(self) -> float:
        """When it has to be sent again: to go on, or as resolved."""
        return min(self.until_seconds, self.sent_seconds + RESEND_SECONDS)

    def body(self, now_seconds: float) -> dict[str, object]:
        """Return it as the API takes it.

        The end is always given: if the agent is not there to resolve it, Alertmanager does so by itself.
        """
        return {
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": _iso(self.starts_seconds),
            "endsAt": _iso(now_seconds if self.is_over(now_seconds) else self.until_seconds),
        }

    def is_over(self, now_seconds: float) -> bool:
        """Tell whether it is resolved."""
        return now_seconds >= self.until_seconds


def alert_of(
    message: Message,
    before: Mapping[tuple[tuple[str, str], ...], Alert],
    *,
    extra: Mapping[str, str],
    now_seconds: float,
    fires_seconds: float,
) -> Alert:
    """Return the alert that a message makes, or makes go on: one for each set of labels.

    It fires from the message on, not from what is told: a message that comes late has to be seen as well.
    """
    labels = {
        **extra,
        **message.labels,
        "alertname": "Cgwatch" + "".join(part.capitalize() for part in message.kind.split("_")),
        "instance": message.node,
    }
    known = before.get(identity_of(labels))
    annotations = {"summary": message.title, "description": message.text}
    if message.number is not None:
        annotations["number"] = str(message.number)
    if message.scope:
        annotations["scope"] = message.scope
    goes_on = known is not None and not known.is_over(now_seconds)
    return Alert(
        labels=labels,
        annotations=annotations,
        # One from the future would be resolved before it begins.
        starts_seconds=known.starts_seconds if known and goes_on else min(message.seconds, now_seconds),
        until_seconds=now_seconds + fires_seconds,
        sent_seconds=now_seconds,
    )


def identity_of(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what makes two alerts the same one."""
    return tuple(sorted(labels.items()))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
