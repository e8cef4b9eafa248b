"""The verdict in words: what to use, and for each budget whether a difference is larger than its interval."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from scoresde.results.interval import Interval, paired
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows

_MISS = 0.05  # the probability that any difference of a budget is called one by chance
WARNING = "Warning: "
_FEW = 4  # seeds below which Student's quantile is large and the spread hardly known


def verdict(results: Rows) -> list[str]:
    """What to use; then a sentence for each budget and quantity, for each adaptive solver, and for failures.

    Two samplers differ if the interval of their difference, seed by seed with the same noise and the same real data,
    excludes zero. Its level is such that all pairs of a budget are judged correctly with 95 % (Bonferroni).
    """
    if not results.comparable:
        return ["The rows are of several problems, sizes or numbers of seeds: they are not ranked against each other."]
    if results.targets:
        return _of_targets({name: verdict(part) for name, part in results.parts.items()})
    rankings = [_Ranking(results, quantity) for quantity in results.ranking]
    lines = [line for ranking in rankings for line in ranking.lines()]
    failed = ["Without a result: " + ", ".join(map(results.full_label, results.failed)) + "."] * bool(results.failed)
    first = [_advice(results, rankings), *_warnings(rankings)] if any(r.rows for r in rankings) else []
    return [*filter(None, first), *lines, *failed] or ["No sampler has a result that could be ranked."]


def _of_targets(said: Mapping[str, Sequence[str]]) -> list[str]:
    """The verdict of each target, of which the first lines come first, in one."""
    first = " ".join(f"{name[:1].upper()}{name[1:]}: {lines[0]}" for name, lines in said.items())
    warned = dict.fromkeys(line for lines in said.values() for line in lines[1:] if line.startswith(WARNING))
    rest = ((name, line) for name, lines in said.items() for line in lines[1:] if line not in warned)
    return [first, *warned, *(f"{line[:-1]}, {name}:" if line.endswith(":") else line for name, line in rest)]


def _warnings(rankings: Sequence["_Ranking"]) -> list[str]:
    seeds = min(len(row.values[r.key]) for r in rankings for row in r.rows)
    many = f"{seeds} seeds are" if seeds > 1 else "1 seed is"
    return [f"{WARNING}{many} few: take the intervals with care, or measure {2 * _FEW} seeds."] * (seeds < _FEW)


def _advice(results: Rows, rankings: Sequence["_Ranking"]) -> str:
    """What to use: among the best, what is at the floor with the fewest evaluations, else what is best most often."""
    leaders = [*map(_Ranking.leaders, rankings)]
    if not leaders[0]:
        return ""
    seeds = len(leaders[0][0].values[rankings[0].key])
    if seeds < 2:
        return "One seed gives no interval, so no sampler is called the best."
    led = Counter(map(results.family_label, chain(*leaders)))
    # a floor of other repetitions than those of the samplers cannot be compared in pairs
    repeated = [q for q in results.measured if q.direction and len(results.floors.get(q.key, [])) == seeds]
    floors = [_Ranking(results, q) for q in repeated]
    found = {label: _from_floor(floors, results, label) for label in map(results.family_label, leaders[0])}
    label = min(found, key=lambda label: (_budget(found[label]), -led[label]))
    if (row := found[label]) is not None:
        by = _listed([floor.quantity.heading for floor in floors], "or")
        said = f"from {row.nfe:.0f} evaluations on it cannot be distinguished from real data by {by}."
    else:
        at = _listed([row.budget for row in leaders[0] if results.family_label(row) == label])
        best = f"at {at} evaluations no other is significantly better by {rankings[0].quantity.heading}"
        said = best + "; it can be distinguished from real data" * bool(floors) + "."
    return "Use " * (len(results.families(results.succeeded)) > 1) + f"{label}: {said}"


def _budget(row: Row | None) -> float:
    return math.inf if row is None else row.budget or row.nfe


def _from_floor(floors: Sequence["_Ranking"], results: Rows, label: str) -> Row | None:
    """The row of the fewest evaluations from which on a sampler is at the floor of every quantity that has one."""
    found = None
    for row in sorted(results.families(results.succeeded)[label], key=lambda row: -row.nfe):
        if not floors or not all(row.finite(floor.key) and floor.near(row) for floor in floors):
            break
        found = row
    return found


def _listed(items: Sequence[object], word: str = "and") -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} {word} {last}" if most else last


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

    def leaders(self) -> list[Row]:
        """Of each budget the best row and those that are not significantly worse."""
        blocks = [own for budget, own in self.results.blocks(self.rows).items() if budget is not None]
        ranked = [self._ranked(own) for own in blocks]
        return [row for own in ranked for row in [own[0], *(row for row, gap in self._gaps(own) if not gap.low > 0)]]

    def near(self, row: Row) -> bool:
        """Whether a row cannot be distinguished from real data; not with one seed."""
        floor = self.results.floors.get(self.key)
        if not floor or len(floor) != len(row.values[self.key]):
            return False
        gap = paired(row.values[self.key], floor)
        return gap.low <= 0 if self.quantity.sign > 0 else gap.high >= 0

    def _ranked(self, rows: Sequence[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: self.quantity.sign * row.interval(self.key).mean)

    def _gaps(self, ranked: Sequence[Row]) -> list[tuple[Row, Interval]]:
        """By how much each of the others is worse than the first."""
        best, *rivals = ranked
        return [(row, self._worse_by(row, best, len(ranked) * len(rivals) // 2)) for row in rivals]

    def _worse_by(self, row: Row, rival: Row, pairs: int) -> Interval:
        """By how much `row` is worse than `rival`, at the level that is correct for so many pairs."""
        own, other = ([self.quantity.sign * v for v in r.values[self.key]] for r in (row, rival))
        return paired(own, other, 1 - _MISS / max(pairs, 1))

    def _of_budget(self, rows: Sequence[Row]) -> str:
        ranked = self._ranked(rows)
        best, floor = ranked[0], self.results.floor(self.key)
        said = f"{best.budget} evaluations: {self.results.label(best)}, {best.interval(self.key)}"
        said += self._against(self._gaps(ranked)) if len(ranked) > 1 else ""
        return said + (f"; not distinguishable from real data ({floor})" if self.near(best) else "") + "."

    def _against(self, gaps: Sequence[tuple[Row, Interval]]) -> str:
        """How the best compares to the others, of which the next best comes first."""
        label = self.results.label
        tied = [(row, gap) for row, gap in gaps if not gap.low > 0]
        if not tied:
            row, gap = gaps[0]
            return f"; better than {label(row)} by {gap}, more than the interval"
        detail = f"worse by at most {max(gap.high for _, gap in tied):.2g}" if tied[0][1].low <= 0 else "one seed"
        others = "any other" if len(tied) == len(gaps) > 1 else ", ".join(label(row) for row, _ in tied)
        return f"; not significantly better than {others} ({detail})"

    def _of_adaptive(self, row: Row, rivals: Sequence[Row]) -> str:
        best = self._ranked(rivals)[0]
        gap = self._worse_by(row, best, len(rivals))
        size = f"by {Interval(abs(gap.mean), gap.half)}"
        if not (gap.high < 0 or gap.low > 0):
            size = f"(by at most {max(gap.high, -gap.low):.2g})" if gap.low <= 0 else "(one seed)"
        how = "better than" if gap.high < 0 else "worse than" if gap.low > 0 else "not significantly different from"
        return (
            f"{self.results.label(row)} spends {row.nfe:.0f} evaluations: {row.interval(self.key)}, {how} "
            f"{self.results.full_label(best)} {size}."
        )
