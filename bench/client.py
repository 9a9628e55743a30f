"""A client as Prometheus is one: it keeps its connection, and takes compressed pages if it says so."""

from __future__ import annotations

import gzip
import http.client
import re
import time
from types import TracebackType
from typing import Self

from msgspec import Struct

_TIMEOUT_SECONDS = 120

PLAIN = {"Accept": "text/plain;version=0.0.4"}
GZIP = {**PLAIN, "Accept-Encoding": "gzip"}


class ScrapeError(Exception):
    """An exporter did not answer with a page."""


class Scrape(Struct, frozen=True):
    """One page, and the time from the request to its last byte."""

    seconds: float
    sent_bytes: int
    page: bytes

    @property
    def lines(self) -> int:
        """How many samples it has."""
        return samples(self.page)


class Client:
    """One connection to an exporter on the loopback."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def scrape(self, headers: dict[str, str] | None = None) -> Scrape:
        """Take one page, by default not compressed; raises ``ScrapeError``."""
        start = time.perf_counter()
        try:
            self._connection.request("GET", "/metrics", headers=PLAIN if headers is None else headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ScrapeError(f"/metrics does not answer: {error!r}") from error
        seconds = time.perf_counter() - start
        if answer.status != http.HTTPStatus.OK:
            raise ScrapeError(f"/metrics answered {answer.status}: {body[:200]!r}")
        page = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
        return Scrape(seconds, len(body), page)


def samples(page: bytes) -> int:
    """Return the number of samples in a page: the lines that are no comments."""
    return sum(1 for line in page.splitlines() if line and not line.startswith(b"#"))


def value(page: bytes, name: bytes) -> float | None:
    """Return the value of a sample without labels; ``None`` when it is not there."""
    found = re.search(rb"^" + re.escape(name) + rb" (\S+)", page, re.MULTILINE)
    return float(found[1]) if found else None
