"""The tables of the README that follow from data; ``python -m tests.readme`` writes them anew."""

from __future__ import annotations

from pathlib import Path

from cgwatch.metrics.departures import table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- departures -->\n", "<!-- /departures -->\n"


def written(readme: str) -> str:
    """Give the README with the table of departures as it has to be."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
