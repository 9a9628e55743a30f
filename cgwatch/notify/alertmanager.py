"""Messages as alerts of Alertmanager: each fires from a message on for a while, and is resolved then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from cgwatch.notify.alerts import Alert, alert_of, identity_of
from cgwatch.notify.message import TEST, Message
from cgwatch.notify.outcome import Delivered, Outcome, Refused, Retry
from cgwatch.notify.post import Poster

_PATH = "/api/v2/alerts"
_TEST_SECONDS = 60.0
"""Nobody keeps up a test: Alertmanager resolves it by itself after that."""


class AlertStore(Protocol):
    """Where alerts that fire outlive the agent; what cannot be stored is its own affair."""

    def alerts(self, owner: str, /) -> Iterable[Alert]:
        """Return the alerts of one Alertmanager."""

    def keep_alerts(self, owner: str, alerts: Iterable[Alert], /) -> None:
        """Store these, and no others, as the alerts of one Alertmanager."""


class Alertmanager:
    """See ``Channel``."""

    def __init__(
        self,
        name: str,
        url: str,
        labels: Mapping[str, str],
        *,
        resolve_after_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float],
        store: AlertStore | None = None,
    ) -> None:
        self.name = name
        self.identity = f"alertmanager {url}"
        self._poster = Poster(url.rstrip("/") + _PATH, timeout_seconds)
        self._labels = labels
        self._resolve_after_seconds = resolve_after_seconds
        self._clock = clock
        self._store = store
        stored = store.alerts(self.identity) if store else ()
        self._alerts = {identity_of(alert.labels): alert for alert in stored}

    @property
    def receiver(self) -> str:
        """Host and port."""
        return self._poster.receiver

    def deliver(self, message: Message) -> Outcome:
        """Have an alert fire, or go on."""
        now_seconds = self._clock()
        fires_seconds = self._resolve_after_seconds
        if message.kind == TEST:
            fires_seconds = min(fires_seconds, _TEST_SECONDS)
        alert = alert_of(
            message,
            self._alerts,
            extra=self._labels,
            now_seconds=now_seconds,
            fires_seconds=fires_seconds,
        )
        outcome = self._post((alert,), now_seconds)
        if isinstance(outcome, Delivered):
            self._alerts[identity_of(alert.labels)] = alert
            self._keep()
        return outcome

    def upkeep_due_seconds(self) -> float | None:
        """Return when the first alert has to be sent again, or is to be resolved."""
        return min((alert.due_seconds() for alert in self._alerts.values()), default=None)

    def keep_up(self) -> Outcome:
        """Send what goes on again, and what is over as resolved."""
        now_seconds = self._clock()
        due = {key: alert for key, alert in self._alerts.items() if alert.due_seconds() <= now_seconds}
        outcome = self._post(due.values(), now_seconds)
        if isinstance(outcome, Retry):
            return outcome
        for key, alert in due.items():
            # Refused: it would be again; Alertmanager resolves by itself what it has got.
            if alert.is_over(now_seconds) or isinstance(outcome, Refused):
                del self._alerts[key]
            else:
                self._alerts[key] = msgspec.structs.replace(alert, sent_seconds=now_seconds)
        self._keep()
        return outcome

    def stop(self) -> None:
        """End an attempt that is under way."""
        self._poster.stop()

    def _post(self, alerts: Iterable[Alert], now_seconds: float) -> Outcome:
        body = msgspec.json.encode([alert.body(now_seconds) for alert in alerts])
        return self._poster.post(body, {}, now_seconds)

    def _keep(self) -> None:
        if self._store is not None:
            self._store.keep_alerts(self.identity, self._alerts.values())
