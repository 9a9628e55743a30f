"""How one attempt went, and when the next one is. Pure."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from msgspec import Struct

_RETRIED = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS},
)
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "look at the secret",
    HTTPStatus.FORBIDDEN: "look at the secret",
    HTTPStatus.NOT_FOUND: "look at the path of the URL",
    HTTPStatus.METHOD_NOT_ALLOWED: "look at the path of the URL",
}


class Delivered(Struct, frozen=True):
    """The receiver has it."""


class Retry(Struct, frozen=True):
    """It may yet go well."""

    problem: str
    after_seconds: float | None = None
    """What the receiver asked for."""


class Refused(Struct, frozen=True):
    """It never will: the same again would be refused again."""

    problem: str


Outcome = Delivered | Retry | Refused


def outcome_of(status: int, retry_after: str | None, excerpt: str, now_seconds: float) -> Outcome:
    """Return what an HTTP answer means; ``retry_after`` is that header, ``excerpt`` the body's beginning."""
    said = f"answered {status}" + (f" ({excerpt})" if excerpt else "")
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRIED:
        return Retry(said, wait_of(retry_after, now_seconds))
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Refused(f"{said}, and redirects are not followed: configure the URL that it names")
    advice = _ADVICE.get(status)
    return Refused(f"{said}: {advice}" if advice else said)


def wait_of(retry_after: str | None, now_seconds: float) -> float | None:
    """Return the seconds that a Retry-After asks for, which has a number or a date; ``None``: neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now_seconds)
    except (ValueError, OverflowError):
        return None


def pause_seconds(
    failures: int, asked_seconds: float | None, chance: float, *, first_seconds: float, longest_seconds: float
) -> float:
    """Return how long to wait after so many failures in a row (from 1), ``longest_seconds`` at most.

    ``chance`` (0..1) takes up to half of it away, so that receivers that come back are not met by all nodes
    at once; of what the receiver asked for it takes nothing.
    """
    # 2.0 ** 1024 is no float any more.
    grown = min(longest_seconds, first_seconds * 2.0 ** min(failures - 1, 64))
    return min(longest_seconds, max(grown * (1 - chance / 2), asked_seconds or 0.0))
