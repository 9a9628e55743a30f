"""The channels that the settings want."""

from __future__ import annotations

from collections.abc import Callable

from cgwatch.errors import ConfigError
from cgwatch.notify.alertmanager import Alertmanager, AlertStore
from cgwatch.notify.channel import Channel
from cgwatch.notify.log import LogChannel
from cgwatch.notify.webhook import Webhook
from cgwatch.notify_settings import Notify

_SECRET = "$.notify.webhook.secret_file"  # noqa: S105 - the key's place


def channels_of(notify: Notify, clock: Callable[[], float], store: AlertStore | None = None) -> list[Channel]:
    """Make them. Raises ``ConfigError`` where the file with the secret cannot be used."""
    channels: list[Channel] = [LogChannel()] if notify.log.enabled else []
    webhook, alertmanager = notify.webhook, notify.alertmanager
    secret = _secret(webhook.secret_file) if webhook.urls and webhook.secret_file is not None else None
    channels += (
        Webhook(name, url, secret, notify.timeout_seconds, clock)
        for name, url in _named("webhook", webhook.urls)
    )
    labels = {name: value for name, _, value in (text.partition("=") for text in alertmanager.labels)}
    channels += (
        Alertmanager(
            name,
            url,
            labels,
            resolve_after_seconds=alertmanager.resolve_after_seconds,
            timeout_seconds=notify.timeout_seconds,
            clock=clock,
            store=store,
        )
        for name, url in _named("alertmanager", alertmanager.urls)
    )
    return channels


def _named(kind: str, urls: tuple[str, ...]) -> list[tuple[str, str]]:
    unique = tuple(dict.fromkeys(urls))
    return [(kind if index == 1 else f"{kind}-{index}", url) for index, url in enumerate(unique, 1)]


def _secret(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        raise ConfigError(_SECRET, f"{path} cannot be read: {error.strerror}") from error
    if not secret:
        raise ConfigError(_SECRET, f"{path} is empty; write the secret into it")
    return secret
