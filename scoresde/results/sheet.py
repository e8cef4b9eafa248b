"""The table of an evaluation: a line for each quantity, with what real data reach, as text and as HTML."""

import math
import textwrap
from collections.abc import Iterator
from html import escape

from scoresde import progress
from scoresde.results.metric import Quantity
from scoresde.results.rows import Row, Rows
from scoresde.results.table import STYLE, aligned
from scoresde.results.verdict import WARNING

_HEADINGS = ("metric", "value", "real data", "x floor")
NARROWEST = 60  # columns of text
_SAID = {
    "worse": "Worse than real data by {}.",
    "same": "Not distinguishable from real data by {}.",
    "open": "Without an interval that would tell: {}.",
}


def judged(results: Rows) -> list[str]:
    """By which quantities the samples are worse than real data, by which they are not, and which cannot say.

    A value lies among those of k sets of real items if it is no worse than their 95 % prediction interval allows,
    t_{k-1} s sqrt(1 + 1/k) from their mean; where there is one set, its own interval decides. Warnings come last.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _SAID}
    for row, q in _measured(results):
        floor, value = results.floor(q.key), row.interval(q.key)
        if q.direction and floor and row.finite(q.key):
            spread = floor.half * math.sqrt(len(results.floors[q.key]) + 1)
            reach = value.half if math.isnan(spread) else spread
            worse = q.sign * (value.mean - floor.mean) > reach
            found["open" if math.isnan(reach) else "worse" if worse else "same"].append(_briefly(results, row, q))
    lines = [_SAID[kind].format(", ".join(names)) for kind, names in found.items() if names]
    lines = lines or ["No metric has a floor, which would say how good a value is."]
    return [*lines, *(note for note in results.notes if note.startswith(WARNING))]


def _briefly(results: Rows, row: Row, q: Quantity) -> str:
    ratio = results.ratio(row, q).mean
    return q.heading + ("" if math.isnan(ratio) else f" ({ratio:.3g} x floor)")


def _measured(results: Rows) -> Iterator[tuple[Row, Quantity]]:
    for row in results.succeeded:
        yield from ((row, q) for q in results.measured if q.key in row.values)


def _cells(results: Rows, row: Row, q: Quantity) -> list[str]:
    """The value with its interval, what real data reach, and the ratio."""
    return [str(row.interval(q.key)), str(results.floor(q.key) or ""), str(results.ratio(row, q))]


def text(results: Rows) -> str:
    """The table, then what its headings mean, as wide as the terminal."""
    width = progress.columns(NARROWEST)
    pairs = list(_measured(results))
    lines = [[q.heading, *_cells(results, row, q)] for row, q in pairs]
    known = {q.heading: q.meaning for _, q in pairs}
    margin = " " * (max(map(len, known), default=0) + 2)
    words = [
        textwrap.fill(f"{heading:<{len(margin)}}{meaning}", width, subsequent_indent=margin)
        for heading, meaning in known.items()
        if meaning != heading
    ]
    return "\n".join([*aligned([_HEADINGS, *lines]), "", *words])


def html(results: Rows) -> str:
    """The table as a fragment that carries its style; below each line stands what it means."""
    head = "".join(f"<th>{name}</th>" for name in _HEADINGS)
    body = "".join(_line(results, row, q) for row, q in _measured(results))
    table = f"<table class='results sheet'><thead><tr>{head}</tr></thead>{body}</table>"
    return f"<style>{STYLE}</style><div class=results><div>{table}</div></div>"


def _line(results: Rows, row: Row, q: Quantity) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in (q.heading, *_cells(results, row, q)))
    words = f"<tr><td class=words colspan={len(_HEADINGS)}>{escape(q.meaning)}</td></tr>"
    return f"<tbody><tr>{cells}</tr>{words * (q.meaning != q.heading)}</tbody>"
