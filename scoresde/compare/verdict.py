"""The verdict in words: which solver for which budget, and whether the difference is larger than its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scoresde.compare.intervals import Interval, paired, student, text
from scoresde.compare.rows import ENDPOINT, WORDS, Comparison, Row, succeeded

_MISS = 0.05  # the probability that any difference of a budget is called one by chance


def verdict(comparison: Comparison) -> list[str]:
    """A sentence for each budget and figure, then what is to be said of adaptive solvers and failures.

    Two samplers differ if the interval of their difference, seed by seed with the same noise and the same real data,
    leaves out zero. Its level is such that all pairs of a budget are judged rightly with 95 % (Bonferroni).
    """
    if not comparison.comparable:
        return ["The rows are of several problems, sizes or numbers of seeds: they are not judged against each other."]
    lines = []
    distance = comparison.distance()
    for figure in (distance, ENDPOINT):
        if figure is None or figure not in comparison.figures:
            continue
        whom = ", deterministic samplers" if figure == ENDPOINT else ""
        lines.append(f"By the {WORDS.get(figure, (figure, figure))[1].split(';')[0]}{whom}:")
        rows = [r for r in succeeded(comparison.rows) if _usable(r, figure)]
        for budget in sorted({r.budget for r in rows if r.budget is not None}):
            lines.append("  " + _of_budget(comparison, [r for r in rows if r.budget == budget], figure))
        for row in rows:
            if row.budget is None and (rivals := [r for r in rows if r.budget and r.budget <= row.nfe]):
                lines.append("  " + _of_adaptive(comparison, row, rivals, figure))
    failed = [row for row in comparison.rows if row.error is not None]
    if failed:
        lines.append("Without a result: " + ", ".join(_full_name(comparison, row) for row in failed) + ".")
    return lines or ["No sampler has a result that could be judged."]


def _usable(row: Row, figure: str) -> bool:
    return bool(row.figures.get(figure)) and all(math.isfinite(v) for v in row.figures[figure])


def _full_name(comparison: Comparison, row: Row) -> str:
    return comparison.label(row) + ("" if row.budget is None else f" with {row.budget}")


def difference(row: Row, best: Row, figure: str, pairs: int) -> Interval:
    """How much worse `row` is than `best`, at the level that is right for so many pairs."""
    return paired(row.figures[figure], best.figures[figure], 1 - _MISS / max(pairs, 1))


def _of_budget(comparison: Comparison, rows: Sequence[Row], figure: str) -> str:
    ranked = sorted(rows, key=lambda r: r.interval(figure).mean)
    best, rivals = ranked[0], ranked[1:]
    said = f"{best.budget} evaluations: {comparison.label(best)}, {text(best.interval(figure))}"
    if rivals:
        pairs = len(ranked) * (len(ranked) - 1) // 2
        gaps = [(r, difference(r, best, figure, pairs)) for r in rivals]
        said += _against(comparison, gaps)
    return said + _at_floor(comparison, best, figure) + "."


def _against(comparison: Comparison, gaps: Sequence[tuple[Row, Interval]]) -> str:
    """How the best stands to the others, of which the next best comes first."""
    tied = [(row, gap) for row, gap in gaps if not gap.low > 0]
    if not tied:
        row, gap = gaps[0]
        return f"; better than {comparison.label(row)} by {text(gap)}, more than the interval"
    names = ", ".join(comparison.label(row) for row, _ in tied)
    row, gap = tied[0]
    detail = f"{comparison.label(row)} is worse by {text(gap)}" if len(tied) > 1 else f"worse by {text(gap)}"
    whom = "all others" if len(tied) == len(gaps) > 1 else names
    return f"; not told apart from {whom} ({detail})"


def _at_floor(comparison: Comparison, best: Row, figure: str) -> str:
    floor = comparison.floors.get(figure)
    if not floor or len(floor) != len(best.figures[figure]):
        return ""
    if paired(best.figures[figure], floor).low > 0:
        return ""
    return f"; not told apart from real data ({text(student(floor))})"


def _of_adaptive(comparison: Comparison, row: Row, rivals: Sequence[Row], figure: str) -> str:
    best = min(rivals, key=lambda r: r.interval(figure).mean)
    gap = difference(row, best, figure, len(rivals))
    how = "better" if gap.high < 0 else "worse" if gap.low > 0 else "not told apart"
    than = "from" if how == "not told apart" else "than"
    return (
        f"{comparison.label(row)} spends {row.nfe:.0f} evaluations: {text(row.interval(figure))}, {how} {than} "
        f"{_full_name(comparison, best)} ({text(gap)})."
    )
