from __future__ import annotations

from prometheus_client import CollectorRegistry

from cgwatch.metrics.own_notify import NotifyMetrics


def test_what_became_of_messages_is_counted_by_channel() -> None:
    registry = CollectorRegistry()
    metrics = NotifyMetrics(registry)
    metrics.notified("webhook", "retried")
    metrics.notified("webhook", "retried")
    metrics.notified("webhook", "delivered")
    metrics.attempted("webhook", 0.2)
    metrics.succeeded("webhook", 1234.5)
    metrics.waiting("webhook", 3)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"channel": "webhook", **labels})

    assert value("cgwatch_notifications_total", result="retried") == 2
    assert value("cgwatch_notifications_total", result="delivered") == 1
    assert value("cgwatch_notifications_total", result="dead_letter") is None
    assert value("cgwatch_notification_delivery_seconds_sum") == 0.2
    assert value("cgwatch_notification_last_success_timestamp_seconds") == 1234.5
    assert value("cgwatch_notification_queue_length") == 3
