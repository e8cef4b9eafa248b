"""The measured distances of posterior methods: results/posterior-PROBLEM.json owns them, what quotes them asks here.

A row has the distance in floors for each sigma_y, mean and interval, and those of ours a `check`: the distance in a
size so small that the tests measure it again. A row is written whole, so that its check is of the same code.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from posterior_problems import NOISES, SIZES
from record import save

from scoresde.results.interval import Interval, student

EXACT = "exact denoiser"
PEERS = ("azula", "deepinv")


class Cell(NamedTuple):
    """A geometric mean over problems with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{two_digits(self.mean)} ({two_digits(self.low)} to {two_digits(self.high)})"


def two_digits(x: float) -> str:
    x = float(f"{x:.2g}") if x < 100 else round(x)
    return f"{x:.{max(0, 1 - math.floor(math.log10(x)))}f}"


def cell(floors: list[float]) -> Cell:
    logs = [math.log(x) for x in floors]
    mean, half = student(logs)[:2] if len(logs) > 1 else (logs[0], math.nan)
    return Cell(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def file_of(problem: str) -> Path:
    return Path(__file__).parent / "results" / f"posterior-{problem}.json"


class Figures:
    """The rows of a problem, by their names.

    Attributes:
        n, problems: samples of each of so many problems.
        rows: what was measured.
    """

    def __init__(self, problem: str, file: Path | None = None) -> None:
        self.problem, self.file = problem, file or file_of(problem)
        found: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.n, self.problems = int(found.get("n", 0)), int(found.get("problems", 0))
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in found.get("rows", [])}

    def check(self, n: int, problems: int) -> None:
        """Refuse rows of other sizes."""
        if self.rows and (n, problems) != (self.n, self.problems):
            raise SystemExit(f"--out: {self.file} has n = {self.n} and {self.problems} problems; give another file")

    def put(self, n: int, problems: int, row: dict[str, Any]) -> None:
        """Keep a row, in place of an earlier one."""
        self.check(n, problems)
        self.n, self.problems = n, problems
        self.rows[row["name"]] = row
        content = {"problem": self.problem, "problems": problems, "n": n, "rows": list(self.rows.values())}
        save("posterior", content, self.file)

    def cells(self, name: str) -> list[Cell]:
        """The figures of a row, for each of `NOISES`."""
        return [Cell(*self.rows[name]["floors"][f"{sigma:g}"]) for sigma in NOISES]


def quoted(text: str) -> list[str]:
    """The figures with intervals of a text, in its order."""
    return re.findall(r"[\d.]+ \([\d.]+ to [\d.]+\)", " ".join(text.split()))


def titled(name: str) -> str:
    if name.startswith(("exact", *PEERS)):
        return name
    method, *rest = name.split(", ")
    return ", ".join([f"`{method}`", *rest])


def main_table() -> Iterator[str]:
    """The lines of the table of mixture_8d in docs/posterior.md."""
    found = Figures("mixture_8d")
    yield "| method | evaluations | products | sigma_y = 0.05 | sigma_y = 0.3 |"
    yield "|---|---|---|---|---|"
    for name, row in found.rows.items():
        products = "" if row["products"] is None else f"{row['products']:.0f}"
        yield f"| {titled(name)} | {row['calls']:.0f} | {products} | {' | '.join(map(str, found.cells(name)))} |"


def other_table() -> Iterator[str]:
    """The lines of the table of the other sizes."""
    low, high = Figures("mixture_2d"), Figures("mixture_64d")
    yield "| method | 2-D, one projection: 0.05 | 0.3 | 64-D, 16 projections: 0.05 | 0.3 |"
    yield "|---|---|---|---|---|"
    for name in [name for name in low.rows if name in high.rows]:
        yield f"| {titled(name)} | {' | '.join(map(str, low.cells(name) + high.cells(name)))} |"


INVERSE = {  # titles of columns
    "inverse_modes": "ring, modes found",
    "inverse_mixture": "8-D",
    "inverse_mixture_64d": "64-D",
    "inverse_digits": "digits",
}


def inverse_table() -> Iterator[str]:
    """The lines of the table of benchmarks/inverse.py: distances in floors, and modes found on the ring."""
    first, *rest = (Figures(problem) for problem in INVERSE)
    yield f"| method | {' | '.join(INVERSE.values())} |"
    yield "|---" * (1 + len(INVERSE)) + "|"
    for name, row in first.rows.items():
        others = [str(Cell(*one.rows[name]["floors"])) for one in rest]
        yield f"| {titled(name)} | {Cell(*row['floors'])}, {row['modes']:.2f} | {' | '.join(others)} |"


def ranks_table() -> Iterator[str]:
    """The lines of the table of the calibration on inverse_mixture."""
    yield "| method | within 50 % | within 90 % | p of uniform ranks |"
    yield "|---|---|---|---|"
    for name, row in Figures("inverse_mixture-ranks").rows.items():
        yield f"| {titled(name)} | {' | '.join(str(Interval(*one)) for one in row['covered'])} | {row['p']:.2g} |"


TABLES = (main_table, other_table, inverse_table, ranks_table)  # of docs/posterior.md


def comparison() -> str:
    """The sentence on the best of ours and the best peer."""
    ratios = [ratio for *_, ratio in best()]
    mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    return f"the best of ours is {two_digits(mean)} of the best peer in the geometric mean"


def best() -> list[tuple[str, str, float]]:
    """The best of ours at 100 evaluations and the best peer for each problem and noise, and the ratio of the two."""
    found = []
    for problem in SIZES:
        figures = Figures(problem)
        fair = {name for name, row in figures.rows.items() if name != EXACT and row["calls"] <= 101}
        theirs = {name for name in fair if name.startswith(PEERS)}
        for k in range(len(NOISES)):
            mean = {name: figures.cells(name)[k].mean for name in fair}
            own, peer = (min(names, key=lambda name: mean[name]) for names in (fair - theirs, theirs))
            found.append((own, peer, mean[own] / mean[peer]))
    return found
