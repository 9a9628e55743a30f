"""Messages to any program over HTTP, signed.

The signature is over the timestamp, a dot and the body, so neither can be changed, nor an old message be sent
again later under a new time; a receiver refuses times that are minutes old, and keys that it has had.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec

from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Delivered, Outcome
from cgwatch.notify.post import Poster

SIGNATURE = "X-Cgwatch-Signature"
TIMESTAMP = "X-Cgwatch-Timestamp"


class Webhook:
    """See ``Channel``. ``secret``: what signs; ``None``: nothing does."""

    def __init__(
        self, name: str, url: str, secret: bytes | None, timeout_seconds: float, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.identity = f"webhook {url}"
        self._poster = Poster(url, timeout_seconds)
        self._secret = secret
        self._clock = clock

    @property
    def receiver(self) -> str:
        """Host and port."""
        return self._poster.receiver

    def deliver(self, message: Message) -> Outcome:
        """Post it as JSON."""
        now_seconds = self._clock()
        body = msgspec.json.encode(message)
        timestamp = str(int(now_seconds))
        headers = {TIMESTAMP: timestamp, "Idempotency-Key": message.key}
        if self._secret is not None:
            headers[SIGNATURE] = signature(self._secret, timestamp, body)
        return self._poster.post(body, headers, now_seconds)

    def upkeep_due_seconds(self) -> float | None:
        """Never."""
        return None

    def keep_up(self) -> Outcome:
        """Nothing to do."""
        return Delivered()

    def stop(self) -> None:
        """End an attempt that is under way."""
        self._poster.stop()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return what a receiver has to compare the header with, in constant time."""
    return f"sha256={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"
