"""The small pages: the one at ``/`` (a single file, nothing loaded from elsewhere), health, and refusals."""

from __future__ import annotations

from html import escape
from string import Template
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from cgwatch.metrics.negotiation import Format


class About(Struct, frozen=True):
    """What the landing page says of this agent."""

    version: str
    node: str
    """The node's name, as its users know it."""
    rows: tuple[tuple[str, str], ...]
    """Label and value, in the order they are shown: cgroup layout, containers, interval, runtimes, ..."""


class Health(Struct, frozen=True):
    """How the agent is."""

    alive: bool
    """The loop ticks; where it does not, a restart helps."""
    ready: bool
    """There is a sample to show."""
    detail: str
    """One line for people: ``last tick 2.1 s ago, interval 5 s``."""


class Pages(Protocol):
    """What the server asks of the agent: the exposition from worker threads, the others from its own."""

    def page(self, exposition: Format, names: frozenset[str], /) -> Sequence[bytes]:
        """Return the exposition of the metric families in ``names``, of all of them where it is empty.

        In pieces: it may be megabytes.
        """

    def compressed(self, exposition: Format, names: frozenset[str], /) -> bytes:
        """Return the same, compressed by gzip."""

    def health(self) -> Health:
        """Return how the agent is; cheap, as it runs between two requests."""

    def about(self) -> About:
        """Return what the landing page says; cheap, as it runs between two requests."""


PATHS = ("/", "/metrics", "/metrics/cadvisor", "/-/healthy", "/-/ready", "/healthz")
"""Every page there is."""

LINKS: tuple[tuple[str, str], ...] = (
    ("/metrics", "Metrics, in the Prometheus text format or OpenMetrics"),
    ("/-/healthy", "Health: is the agent alive?"),
    ("/-/ready", "Readiness: does it have a sample to show?"),
)

PLAIN_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""On every page."""

_LANDING_HEADERS = {
    **PLAIN_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}
_DESCRIPTION = "Node agent for container resources: cgroup samples under cAdvisor's metric names."

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>cgwatch on $node</title>
<link rel="icon" href="data:,">
<style>
:root { --ink: #1c2430; --soft: #5b6675; --paper: #f5f6f8; --card: #fff; --line: #dfe3e8; --link: #0b5cad }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #98a3b3; --paper: #14181e; --card: #1c222b; --line: #303945;
    --link: #74b3ff }
}
body { margin: 0; padding: 2.5rem 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 44rem; margin: 0 auto }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere }
h1 small { font-size: 1rem; font-weight: 400; color: var(--soft) }
p { margin: .5rem 0 1.75rem; color: var(--soft) }
table, ul { width: 100%; box-sizing: border-box; margin: 0 0 1.25rem; padding: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; border-spacing: 0; list-style: none }
th, td, li { padding: .6rem 1rem; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { width: 12rem; font-weight: 400; color: var(--soft) }
tr + tr > *, li + li { border-top: 1px solid var(--line) }
li { display: flex; flex-wrap: wrap; gap: 0 2rem }
a { min-width: 12rem; color: var(--link); font-family: ui-monospace, monospace }
@media (max-width: 36rem) { th { width: 7.5rem } a { min-width: 7.5rem } }
</style>
</head>
<body>
<main>
<h1>cgwatch <small>$version on $node</small></h1>
<p>$description</p>
<table>
$rows
</table>
<ul>
$links
</ul>
</main>
</body>
</html>
""")


def landing_page(about: About) -> str:
    """Render the landing page as HTML; every value is escaped."""
    return _PAGE.substitute(
        version=escape(about.version),
        node=escape(about.node),
        description=escape(_DESCRIPTION),
        rows="\n".join(
            f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>'
            for label, value in about.rows
        ),
        links="\n".join(f'<li><a href="{path}">{path}</a> {escape(text)}</li>' for path, text in LINKS),
    )


def small_pages(pages: Pages) -> list[Route]:
    """Make the routes of everything but the metrics."""

    async def landing(_: Request) -> Response:
        return HTMLResponse(landing_page(pages.about()), headers=_LANDING_HEADERS)

    async def healthy(_: Request) -> Response:
        health = pages.health()
        return _state("alive", health.detail, holds=health.alive)

    async def ready(_: Request) -> Response:
        health = pages.health()
        return _state("ready", health.detail, holds=health.ready)

    async def healthz(_: Request) -> Response:  # as cAdvisor has it, to the byte
        return _line(200, "ok") if pages.health().alive else _line(503, "not alive")

    return [
        Route("/", landing, methods=["GET"]),
        Route("/-/healthy", healthy, methods=["GET"]),
        Route("/-/ready", ready, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
    ]


def _line(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, {**PLAIN_HEADERS, **(headers or {})})


def _state(word: str, detail: str, *, holds: bool) -> Response:
    return _line(200, f"{word}: {detail}\n") if holds else _line(503, f"not {word}: {detail}\n")


async def not_found(_: Request, __: Exception) -> Response:
    """Answer for a path that is no page."""
    return _line(404, f"no such page; there are {' '.join(PATHS)}\n")


async def not_allowed(_: Request, __: Exception) -> Response:
    """Answer for a method that would change something."""
    return _line(405, f"pages are only read; GET or HEAD {' '.join(PATHS)}\n", {"Allow": "GET, HEAD"})


async def failed(_: Request, error: Exception) -> Response:
    """Answer for a page that raised; uvicorn logs the traceback."""
    return _line(500, f"the page could not be made: {type(error).__name__}; the agent's log says more\n")
