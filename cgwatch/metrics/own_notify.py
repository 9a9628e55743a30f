"""``cgwatch_notification*``: how telling people does."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cgwatch.notify.observer import Result

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class NotifyMetrics:
    """See ``cgwatch.notify.observer.Observer``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._notifications = Counter(
            "cgwatch_notifications_total",
            "Messages by what became of them: delivered, dead_letter (refused), dropped (too old, too many),"
            " held_back (told with a later one); and retried, for each attempt that failed.",
            ["channel", "result"],
            registry=registry,
        )
        self._waiting = Gauge(
            "cgwatch_notification_queue_length",
            "Messages on their way.",
            ["channel"],
            registry=registry,
        )
        self._seconds = Histogram(
            "cgwatch_notification_delivery_seconds",
            "Time of each attempt.",
            ["channel"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._succeeded = Gauge(
            "cgwatch_notification_last_success_timestamp_seconds",
            "When a receiver last took something, since the epoch.",
            ["channel"],
            registry=registry,
        )

    def notified(self, channel: str, result: Result, /) -> None:
        """Count what became of a message, or an attempt."""
        self._notifications.labels(channel, result).inc()

    def attempted(self, channel: str, seconds: float, /) -> None:
        """One attempt took so long."""
        self._seconds.labels(channel).observe(seconds)

    def succeeded(self, channel: str, seconds: float, /) -> None:
        """A receiver took something, at that time since the epoch."""
        self._succeeded.labels(channel).set(seconds)

    def waiting(self, channel: str, messages: int, /) -> None:
        """So many messages are on their way."""
        self._waiting.labels(channel).set(messages)
