"""What an expression's value is a number of: bytes, seconds, one of them by the other, or nothing.

The dimension of a metric follows from the catalogue; that of an expression, from its functions and operators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import promql_parser
from msgspec import Struct


class Dimension(Struct, frozen=True):
    """Exponents of the base units."""

    bytes: int = 0
    seconds: int = 0

    def over(self, other: Dimension) -> Dimension:
        """Divide by another one."""
        return Dimension(self.bytes - other.bytes, self.seconds - other.seconds)


NOTHING = Dimension()
SECONDS = Dimension(seconds=1)
UNITS = {
    "bytes": Dimension(bytes=1),
    "Bps": Dimension(bytes=1, seconds=-1),
    **dict.fromkeys(("s", "dtdurations", "dateTimeFromNow", "dateTimeAsIso"), SECONDS),
    **dict.fromkeys(("cps", "iops", "pps"), Dimension(seconds=-1)),
    **dict.fromkeys(("none", "short", "percentunit"), NOTHING),
}
"""Grafana's units; those of a moment are in milliseconds."""
_KEEPING = frozenset({"sum", "max", "min", "avg", "topk"})


def dimension(expr: promql_parser.Expr, helps: Mapping[str, str]) -> Dimension:
    """Return what the value of an expression is a number of; ``helps`` are the catalogue's, by name."""
    found = NOTHING
    match expr:
        case promql_parser.VectorSelector():
            found = of_metric(expr.name or "", helps)
        case promql_parser.MatrixSelector():
            found = of_metric(expr.vector_selector.name or "", helps)
        case promql_parser.ParenExpr():
            found = dimension(expr.expr, helps)
        case promql_parser.AggregateExpr() if str(expr.op) != "count":
            assert str(expr.op) in _KEEPING, f"no rule for {expr.op}"
            found = dimension(expr.expr, helps)
        case promql_parser.Call():
            found = _called(expr, helps)
        case promql_parser.BinaryExpr():
            found = _operated(expr, helps)
    return found


def of_metric(name: str, helps: Mapping[str, str]) -> Dimension:
    """Return the unit that a name ends with, or the help speaks of."""
    if name.endswith(("_count", "_bucket")) and name not in helps:
        return NOTHING
    said = helps.get(name, "")
    if re.search(r"_bytes(_total|_sum)?$", name) or "in bytes" in said:
        return Dimension(bytes=1)
    if re.search(r"_seconds(_total|_sum)?$", name) or "in microseconds" in said:
        return SECONDS
    return NOTHING


def _called(call: promql_parser.Call, helps: Mapping[str, str]) -> Dimension:
    match call.func.name:
        case "rate":
            return dimension(call.args[0], helps).over(SECONDS)
        case "increase":
            return dimension(call.args[0], helps)
        case "time":
            return SECONDS
        case "histogram_quantile":
            (bucket,) = set(re.findall(r"\w+_bucket\b", str(call)))
            return of_metric(bucket.removesuffix("_bucket"), helps)
    raise AssertionError(f"no rule for {call.func.name}()")


def _operated(expr: promql_parser.BinaryExpr, helps: Mapping[str, str]) -> Dimension:
    left, right = dimension(expr.lhs, helps), dimension(expr.rhs, helps)
    match str(expr.op):
        case "/":
            return left.over(right)
        case "*":
            assert right == NOTHING, f"no rule for the product {expr}"
            return left
        case "-" | "+":
            assert left == right, f"{left} and {right} have no sum: {expr}"
            return left
        case ">" | "<" | "==":
            assert right in (left, NOTHING), f"{left} is compared to {right}: {expr}"
            return left
    raise AssertionError(f"no rule for {expr.op}")
