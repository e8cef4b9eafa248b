"""The verdict in words: which solver for which budget, and whether the difference is larger than its interval."""

from collections.abc import Sequence

from scoresde.results.interval import Interval, paired
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows

_MISS = 0.05  # the probability that any difference of a budget is called one by chance


def verdict(results: Rows) -> list[str]:
    """A sentence for each budget and quantity, then one for each adaptive solver and one for failures.

    Two samplers differ if the interval of their difference, seed by seed with the same noise and the same real data,
    excludes zero. Its level is such that all pairs of a budget are judged correctly with 95 % (Bonferroni).
    """
    if not results.comparable:
        return ["The rows are of several problems, sizes or numbers of seeds: they are not ranked against each other."]
    lines = [line for quantity in results.ranking for line in _Ranking(results, quantity).lines()]
    if results.failed:
        lines.append("Without a result: " + ", ".join(map(results.full_label, results.failed)) + ".")
    return lines or ["No sampler has a result that could be ranked."]


class _Ranking:
    """The sentences about one quantity."""

    def __init__(self, results: Rows, quantity: Quantity) -> None:
        self.results, self.quantity, self.key = results, quantity, quantity.key
        self.rows = [row for row in results.succeeded if row.finite(self.key)]

    def lines(self) -> list[str]:
        """A heading, then a line for each budget and each adaptive solver."""
        blocks = self.results.blocks(self.rows)
        adaptive = blocks.pop(None, [])
        lines = [self._of_budget(own) for own in blocks.values()]
        for row in adaptive:
            if rivals := [r for r in self.rows if r.budget is not None and r.budget <= row.nfe]:
                lines.append(self._of_adaptive(row, rivals))
        return [f"By the {self.quantity.words or self.key}:", *(f"  {line}" for line in lines)]

    def _ranked(self, rows: Sequence[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: self.quantity.sign * row.interval(self.key).mean)

    def _worse_by(self, row: Row, rival: Row, pairs: int) -> Interval:
        """By how much `row` is worse than `rival`, at the level that is correct for so many pairs."""
        own, other = ([self.quantity.sign * v for v in r.values[self.key]] for r in (row, rival))
        return paired(own, other, 1 - _MISS / max(pairs, 1))

    def _of_budget(self, rows: Sequence[Row]) -> str:
        best, *rivals = self._ranked(rows)
        said = f"{best.budget} evaluations: {self.results.label(best)}, {best.interval(self.key)}"
        if rivals:
            pairs = len(rows) * (len(rows) - 1) // 2
            said += self._against([(row, self._worse_by(row, best, pairs)) for row in rivals])
        return said + self._at_floor(best) + "."

    def _against(self, gaps: Sequence[tuple[Row, Interval]]) -> str:
        """How the best compares to the others, of which the next best comes first."""
        label = self.results.label
        tied = [(row, gap) for row, gap in gaps if not gap.low > 0]
        if not tied:
            row, gap = gaps[0]
            return f"; better than {label(row)} by {gap}, more than the interval"
        row, gap = tied[0]
        detail = f"{label(row)} is worse by {gap}" if len(tied) > 1 else f"worse by {gap}"
        others = "any other" if len(tied) == len(gaps) > 1 else ", ".join(label(row) for row, _ in tied)
        return f"; not significantly better than {others} ({detail})"

    def _at_floor(self, best: Row) -> str:
        floor = self.results.floors.get(self.key)
        if not floor or len(floor) != len(best.values[self.key]):
            return ""
        gap = paired(best.values[self.key], floor)
        near = gap.low <= 0 if self.quantity.sign > 0 else gap.high >= 0  # neither with one seed
        return f"; not distinguishable from real data ({self.results.floor(self.key)})" if near else ""

    def _of_adaptive(self, row: Row, rivals: Sequence[Row]) -> str:
        best = self._ranked(rivals)[0]
        gap = self._worse_by(row, best, len(rivals))
        how = "better than" if gap.high < 0 else "worse than" if gap.low > 0 else "not significantly different from"
        return (
            f"{self.results.label(row)} spends {row.nfe:.0f} evaluations: {row.interval(self.key)}, {how} "
            f"{self.results.full_label(best)} ({gap})."
        )
