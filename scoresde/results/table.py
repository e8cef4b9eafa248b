"""The table of results, as text and as HTML."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import islice
from typing import NamedTuple

from scoresde.results.interval import Interval
from scoresde.results.metric import Quantity
from scoresde.results.row import Row
from scoresde.results.rows import Rows

FLOOR = "floor: real data"
STYLE = """
table.results{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
table.results th,table.results td{padding:.25em .7em;text-align:right;white-space:nowrap}
table.results th,table.results td{border-bottom:1px solid rgba(128,128,128,.2)}
table.results th:first-child,table.results td:first-child{text-align:left}
table.results th{background:rgba(128,128,128,.1)}table.results tr.floor td{opacity:.7;font-style:italic}
table.results td.best{font-weight:600;background:rgba(0,114,178,.13)}
table.results tr.first td{border-top:2px solid rgba(128,128,128,.4)}
table.results tr.failed td{color:#c2410c;text-align:left;white-space:normal}
"""


class Cell(NamedTuple):
    """What a cell shows, what it is sorted by, and whether it is the best of its budget."""

    text: str = ""
    value: float | str | None = None
    best: bool = False


class Column(NamedTuple):
    """A heading, the cell of a row, and that of the floor."""

    heading: str
    cell: Callable[[Row], Cell]
    floor: Cell = Cell()


def _count(value: float | None, text: str) -> Cell:
    return Cell() if value is None or math.isnan(value) else Cell(text.format(value), value)


def _interval(interval: Interval, best: bool = False) -> Cell:
    return Cell(str(interval), interval.mean, best)


def _columns(results: Rows, brief: bool) -> list[Column]:
    """The columns in which there is something; all of `brief` ones alone."""
    several = len(results.settings) > 1
    plain = [
        Column("sampler", lambda r: Cell(r.name, r.name), Cell(FLOOR)),
        Column("setting", lambda r: Cell(r.setting, r.setting) if several else Cell()),
        Column("budget", lambda r: _count(r.budget, "{}")),
        Column("steps", lambda r: Cell("auto") if r.steps is None else Cell(str(r.steps), r.steps)),
        Column("NFE", lambda r: _count(r.nfe, "{:.4g}")),
        Column("seconds", lambda r: _count(r.interval("seconds").mean, "{:.2g}")),
        Column("MB", lambda r: _count(r.memory, "{:.0f}")),
    ]
    shown = [q for q in results.measured if q.brief or not brief]
    measured = [column for q in shown for column in _measured(results, q)]
    rows = results.succeeded or results.rows
    return [c for c in (*plain, *measured) if any(c.cell(row).text for row in rows)]


def _measured(results: Rows, q: Quantity) -> list[Column]:
    """The column of a quantity, and that of its ratio to the floor where that has a meaning."""
    floor = results.floor(q.key)
    best = {budget: _best(rows, q) for budget, rows in results.blocks(results.rows).items()}

    def cell(row: Row) -> Cell:
        interval = row.interval(q.key)
        return _interval(interval, q.direction is not None and interval.mean == best[row.budget])

    own = Column(q.heading, cell, Cell() if floor is None else _interval(floor))
    ratio = Column("x floor", lambda row: _count(results.ratio(row, q), "{:.3g}"))
    return [own, ratio] if q.ratio and floor is not None else [own]


def _best(rows: Sequence[Row], q: Quantity) -> float | None:
    means = [row.interval(q.key).mean for row in rows]
    return min((m for m in means if math.isfinite(m)), key=lambda m: q.sign * m, default=None)


def text(results: Rows) -> str:
    """A block of rows for each budget, the floor, and a line for each failure."""
    columns = _columns(results, brief=True)
    blocks = results.blocks(results.succeeded)
    cells = [[c.cell(row).text for c in columns] for own in blocks.values() for row in own]
    lines = iter(aligned([[c.heading for c in columns], *cells, [c.floor.text for c in columns]]))
    out = list(islice(lines, 2))
    for own in blocks.values():
        out += [*islice(lines, len(own)), ""]
    out += lines if results.floors else []
    out += [f"{results.full_label(row)}: {row.error}" for row in results.rows if row.error is not None]
    return "\n".join(out).rstrip()


def legend(results: Rows, brief: bool = True) -> dict[str, str]:
    """What the headings mean, of those that need words."""
    headings = [column.heading for column in _columns(results, brief)]
    words = {
        "NFE": "network evaluations per sample, counted",
        "seconds": f"to draw {f'{results.n:,}' if results.n else 'the'} samples of one seed",
        "MB": "peak memory above that before",
        "x floor": "the value before it as a multiple of the floor, which real data reach",
    }
    for q in results.measured:
        best = {"lower": "", "higher": "higher is better", None: ""}[q.direction]
        words.setdefault(q.heading, "; ".join(part for part in (q.title, q.note, best) if part))
    return {heading: meaning for heading, meaning in words.items() if heading in headings and meaning != heading}


def explained(results: Rows) -> str:
    """The table with its legend, for a terminal."""
    words = legend(results)
    width = max(map(len, words), default=0)
    return "\n".join([text(results), "", *(f"{heading:<{width}}  {meaning}" for heading, meaning in words.items())])


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first to the left and the others to the right, with a rule under the headings."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    return [out[0], "-" * max(map(len, out)), *out[1:]]


def html(results: Rows) -> str:
    """The whole table as a fragment that carries its style."""
    columns = _columns(results, brief=False)
    blocks = results.blocks(results.rows).values()
    lines = [_line(row, columns, row is own[0]) for own in blocks for row in own]
    if results.floors:
        lines.append(_tr("floor first", [c.floor for c in columns]))
    head = "".join(f"<th>{escape(c.heading)}</th>" for c in columns)
    body = "".join(lines)
    return f"<style>{STYLE}</style><table class=results><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _line(row: Row, columns: Sequence[Column], first: bool) -> str:
    """A row of HTML; the first one of a budget has a line above it."""
    mark = "first" if first else ""
    if row.error is None:
        return _tr(mark, [c.cell(row) for c in columns])
    named = [c.cell(row) for c in columns if c.heading in ("sampler", "setting", "budget")]
    rest = len(columns) - len(named)
    return _tr(f"failed {mark}", named, f"<td colspan={rest}>{escape(row.error)}</td>" if rest else "")


def _tr(kind: str, cells: Sequence[Cell], rest: str = "") -> str:
    return f"<tr class='{kind}'>{''.join(map(_td, cells))}{rest}</tr>"


def _td(cell: Cell) -> str:
    number = cell.value if not isinstance(cell.value, float) or math.isfinite(cell.value) else None
    mark = " class=best" if cell.best else ""
    return f'<td{mark} data-v="{escape("" if number is None else str(number))}">{escape(cell.text)}</td>'
