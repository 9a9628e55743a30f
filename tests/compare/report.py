"""The comparison as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.compare.known import Known, Reasons
from tests.compare.process import Cost
from tests.compare.verdict import Finding, Row, What

_HEADER = ("family", "type", "labels", "series", "same values", "verdict")
_EXAMPLES = 4
_MEBIBYTE = 1 << 20


def unexplained(findings: Iterable[Finding], reasons: Reasons) -> list[Finding]:
    """Give the findings that no row explains."""
    return [finding for finding in findings if reasons.of(finding) is None]


def table(rows: Sequence[Row], reasons: Reasons) -> str:
    """One line for each family: what cAdvisor has | what cgwatch has, where these are not the same."""
    cells = [_HEADER]
    cells += [
        (
            row.family,
            _pair(*row.types),
            _pair(*row.labels),
            _pair(*map(str, row.series)),
            f"{row.same}/{row.compared}" if row.compared else "",
            _verdict(row, reasons),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _pair(theirs: str, ours: str) -> str:
    return theirs if theirs == ours else f"{theirs or '-'} | {ours or '-'}"


def _verdict(row: Row, reasons: Reasons) -> str:
    if not row.findings:
        return "same"
    if unexplained(row.findings, reasons):
        return "DIFFERENT"
    missing = next((f.what for f in row.findings if f.what in (What.ONLY_CADVISOR, What.ONLY_CGWATCH)), None)
    return f"known: {missing}" if missing else "known"


def differences(findings: Iterable[Finding], reasons: Reasons) -> str:
    """Every difference with its reason, those without one first; of many that are alike, a few."""
    groups: dict[tuple[bool, str, str, str], list[Finding]] = {}
    for finding in findings:
        why = reasons.of(finding)
        groups.setdefault((why is not None, finding.family, finding.what, why or ""), []).append(finding)
    lines = []
    for (is_known, family, what, why), found in sorted(groups.items()):
        lines.append(f"{'' if is_known else 'NOT EXPLAINED: '}{family} {what}" + (f": {why}" if why else ""))
        # Whatever is not explained is shown in full: a row is to be made of it.
        shown = found[:_EXAMPLES] if is_known else found
        lines += ["    " + f"{one.whose} {one.detail}".strip() for one in shown]
        if len(found) > len(shown):
            lines.append(f"    and {len(found) - len(shown)} more")
    return "\n".join(lines)


def stale(rows: Iterable[Known]) -> str:
    """Rows that explain nothing any more."""
    return "\n".join(
        f"NOTHING TO EXPLAIN: {row.families} {row.what}, {row.detail} of {', '.join(row.whose)}: {row.why}"
        for row in rows
    )


def costs(theirs: Cost, ours: Cost, scrapes: int) -> str:
    """What both processes used, side by side."""
    lines = [
        f"over {cost.seconds:.1f} s with {scrapes} scrapes and {cost.samples:.1f} samples of each container,"
        f" {name} used {cost.cpu_seconds:.2f} s of CPU ({cost.cpu_seconds / cost.seconds:.1%} of a core)"
        f" and holds {cost.resident_bytes / _MEBIBYTE:.1f} MiB"
        for name, cost in (("cAdvisor", theirs), ("cgwatch", ours))
    ]
    ratio = theirs.cpu_seconds / ours.cpu_seconds
    by_sample = ratio * ours.samples / theirs.samples
    lines.append(
        f"cAdvisor's CPU time is {ratio:.1f} times cgwatch's, for as many samples {by_sample:.1f} times"
    )
    return "\n".join(lines)
