"""Which exposition a client wants, and whether compressed: pure functions of two request headers.

``prometheus_client.exposition.choose_encoder`` takes the first name that it knows and ignores q-values; a
scraper that ranks its formats, as Prometheus does, would not always get its first choice.
"""

from __future__ import annotations

import re
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Format(StrEnum):
    """The text formats of Prometheus that cgwatch writes."""

    TEXT = "text"
    OPENMETRICS = "openmetrics"


CONTENT_TYPES: Mapping[Format, str] = MappingProxyType(
    {
        Format.TEXT: "text/plain; version=0.0.4; charset=utf-8",
        Format.OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
)
"""The value of the Content-Type header for each format."""

# A wildcard stands for the text format only: who wants OpenMetrics names it, and a browser does not.
_RANGES: Mapping[Format, tuple[str, ...]] = MappingProxyType(
    {
        Format.TEXT: ("*/*", "text/*", "text/plain"),
        Format.OPENMETRICS: ("application/openmetrics-text",),
    }
)
_VERSIONS: Mapping[Format, str] = MappingProxyType({Format.TEXT: "0.0.4", Format.OPENMETRICS: "1.0.0"})

_QUALITY = re.compile(r"0?\.[0-9]+|[01](\.[0-9]*)?")


class _Element(Struct, frozen=True):
    name: str
    parameters: Mapping[str, str]
    quality: float


def choose_format(accept: str) -> Format:
    """Pick the format that an Accept header ranks highest; the text format where it names neither.

    The most specific media range decides on a format's rank (RFC 9110, 12.5.1), and OpenMetrics wins a tie.
    ``escaping=`` is of no consequence: every name that cgwatch writes is valid without escaping.
    Elements that cannot be read are passed over.
    """
    elements = list(_elements(accept))
    openmetrics = _rank(Format.OPENMETRICS, elements)
    return (
        Format.OPENMETRICS if openmetrics > 0 and openmetrics >= _rank(Format.TEXT, elements) else Format.TEXT
    )


def wants_gzip(accept_encoding: str) -> bool:
    """Say whether an Accept-Encoding header takes gzip, and ranks it no lower than an uncompressed page."""
    qualities = {element.name: element.quality for element in _elements(accept_encoding)}
    gzip = qualities.get("gzip", qualities.get("*", 0.0))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _rank(exposition: Format, elements: list[_Element]) -> float:
    matches = ((_specificity(exposition, element), element.quality) for element in elements)
    return max((match for match in matches if match[0]), default=(0, 0.0))[1]


def _specificity(exposition: Format, element: _Element) -> int:
    """Say how closely an element describes a format; 0 is not at all."""
    ranges = _RANGES[exposition]
    if element.name not in ranges:
        return 0
    version = element.parameters.get("version")
    if version is None:
        return 1 + ranges.index(element.name)
    return 1 + len(ranges) if version == _VERSIONS[exposition] else 0


def _elements(header: str) -> Iterator[_Element]:
    for text in header.lower().split(","):
        name, *rest = text.split(";")
        pairs = (parameter.partition("=") for parameter in rest)
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in pairs}
        quality = parameters.get("q", "1")
        if name.strip() and _QUALITY.fullmatch(quality) and float(quality) <= 1:
            yield _Element(name.strip(), parameters, float(quality))
