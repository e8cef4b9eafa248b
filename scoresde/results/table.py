"""The table of results, as text and as HTML."""

import math
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple

from scoresde.results.interval import Interval
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows, finite_means

FLOOR = "floor: real data"
STYLE = Path(__file__).with_name("table.css").read_text(encoding="utf-8")
_MOST = 5  # quantities that fit into 1280 pixels


class Cell(NamedTuple):
    """What a cell shows, what it is sorted by, and whether it is the best of its budget."""

    text: str = ""
    value: float | str = ""
    best: bool = False


class Column(NamedTuple):
    """A heading, the cell of a row, that of the floor of results, and where in HTML there is room for it.

    `narrow` columns are shown on a telephone too, `wide` ones from 1000 pixels on, `more` ones if they are asked for.
    """

    heading: str
    cell: Callable[[Row], Cell]
    floor: Callable[[Rows], Cell] = lambda _: Cell()
    room: Literal["narrow", "wide", "more"] = "narrow"


def _count(value: float | None, text: str) -> Cell:
    return Cell() if value is None or math.isnan(value) else Cell(text.format(value), value)


def _interval(interval: Interval, best: bool = False) -> Cell:
    return Cell(str(interval), interval.mean if math.isfinite(interval.mean) else "", best)


def _columns(results: Rows, brief: bool) -> list[Column]:
    """The columns in which there is something; all of `brief` ones alone."""
    several = len(results.settings) > 1
    plain = [
        Column("sampler", lambda r: Cell(r.name, r.name), lambda part: Cell(_floor(part))),
        Column("setting", lambda r: Cell(r.setting, r.setting) if several else Cell()),
        Column("budget", lambda r: _count(r.budget, "{}")),
        Column("steps", lambda r: Cell("auto") if r.steps is None else Cell(str(r.steps), r.steps), room="more"),
        Column("NFE", lambda r: _count(r.nfe, "{:.4g}"), room="wide"),
        Column("seconds", lambda r: _count(r.interval("seconds").mean, "{:.2g}"), room="wide"),
        Column("MB", lambda r: _count(r.memory, "{:.0f}"), room="more"),
    ]
    shown = [q for q in results.measured if q.brief or not brief]
    measured = [column for q in shown for column in _measured(results, q)]
    rows = results.succeeded or results.rows
    return [c for c in (*plain, *measured) if any(c.cell(row).text for row in rows)]


def _measured(results: Rows, q: Quantity) -> list[Column]:
    """The column of a quantity, and that of its ratio to the floor where that has a meaning."""
    parts = results.parts.items()
    best = {(k, b): _best(rows, q) for k, part in parts for b, rows in part.blocks(part.rows).items()}

    def cell(row: Row) -> Cell:
        interval = row.interval(q.key)
        return _interval(interval, q.direction is not None and interval.mean == best[row.target, row.budget])

    def floor(part: Rows) -> Cell:
        found = part.floor(q.key)
        return Cell() if found is None else _interval(found)

    own = Column(q.heading, cell, floor, _room(results, q))
    ratio = Column("x floor", lambda row: _interval(results.ratio(row, q)), room="wide")
    return [own, ratio] if q.ratio and any(part.floor(q.key) is not None for _, part in parts) else [own]


def _floor(part: Rows) -> str:
    """What stands before the floors of a part."""
    target = part.rows[0].target if part.rows else ""
    return f"{FLOOR}, {target}" if target else FLOOR


def _room(results: Rows, q: Quantity) -> Literal["narrow", "wide", "more"]:
    ranked = results.ranking[:2]
    shown = [*ranked, *(other for other in results.measured if other.brief and other not in ranked)]
    return "narrow" if q in ranked else "wide" if q in shown[:_MOST] else "more"


def _best(rows: Sequence[Row], q: Quantity) -> float | None:
    return min(finite_means(rows, q.key), key=lambda m: q.sign * m, default=None)


def text(results: Rows) -> str:
    """A block of rows for each budget, the floor, both for each target, and a line for each failure."""
    columns = _columns(results, brief=True)
    lines, gap = [[c.heading for c in columns]], [[""] * len(columns)]
    for part in results.parts.values():
        lines += gap if len(lines) > 1 else []
        for own in part.blocks(part.succeeded).values():
            lines += [[c.cell(row).text for c in columns] for row in own] + gap
        if part.floors:
            lines.append([c.floor(part).text for c in columns])
    failures = [f"{results.full_label(row)}: {row.error}" for row in results.failed]
    return "\n".join(aligned(lines) + failures).rstrip()


def legend(results: Rows, brief: bool = True) -> dict[str, str]:
    """What the headings mean, of those that need words."""
    words = {q.heading: q.meaning for q in results.measured} | {
        "NFE": "network evaluations per sample, counted",
        "seconds": f"to draw {f'{results.n:,}' if results.n else 'the'} samples of one seed",
        "MB": "peak memory above that before",
        "x floor": "the value before it over the floor, which real data reach: a perfect sampler has 1, less is chance",
    }
    headings = [column.heading for column in _columns(results, brief)]
    return {heading: words[heading] for heading in headings if words.get(heading, heading) != heading}


def explained(results: Rows) -> str:
    """The table with its legend, for a terminal."""
    words = legend(results)
    width = max(map(len, words), default=0)
    return "\n".join([text(results), "", *(f"{heading:<{width}}  {meaning}" for heading, meaning in words.items())])


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Cells in columns, the first ones to the left and the others to the right, with a rule under the headings."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    rows = ([side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)] for line in lines)
    out = ["  ".join(row).rstrip() for row in rows]
    return [out[0], "-" * max(map(len, out)), *out[1:]]


def html(results: Rows) -> str:
    """The whole table as a fragment that carries its style; columns without room are shown if they are asked for."""
    columns = _columns(results, brief=False)
    lines = []
    for part in results.parts.values():
        lines += [_line(row, columns, row is own[0]) for own in part.blocks(part.rows).values() for row in own]
        lines += [_tr("floor first", columns, [c.floor(part) for c in columns])] * bool(part.floors)
    head = "".join(f"<th class={c.room}>{escape(c.heading)}</th>" for c in columns)
    table = f"<table class=results><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    ask = "<label><input type=checkbox> all columns</label>"
    return f"<style>{STYLE}</style><div class=results>{ask}<div>{table}</div></div>"


def _line(row: Row, columns: Sequence[Column], first: bool) -> str:
    """A row of HTML; the first one of a budget has a line above it."""
    mark = "first" if first else ""
    if row.error is None:
        return _tr(mark, columns, [c.cell(row) for c in columns])
    named = [c for c in columns if c.heading in ("sampler", "setting", "budget")]
    rest = f"<td colspan={len(columns) - len(named)}>{escape(row.error)}</td>"
    return _tr(f"failed {mark}", named, [c.cell(row) for c in named], rest)


def _tr(kind: str, columns: Sequence[Column], cells: Sequence[Cell], rest: str = "") -> str:
    return f"<tr class='{kind}'>{''.join(map(_td, columns, cells))}{rest}</tr>"


def _td(column: Column, cell: Cell) -> str:
    mark = f"{column.room} best" if cell.best else column.room
    text = re.sub("([_+@])", r"\1<wbr>", escape(cell.text))  # where long names may break
    return f'<td class="{mark}" data-v="{escape(str(cell.value))}">{text}</td>'
