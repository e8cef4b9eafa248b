"""The comparison of samplers as a table for the terminal."""

from __future__ import annotations

from scoresde.cli.table import aligned
from scoresde.compare.intervals import student, text
from scoresde.compare.rows import WORDS, Comparison, Row, ordered

_REPORT_ONLY = ("endpoint_median", "endpoint_p95")  # so that a line fits into a window


def table(comparison: Comparison) -> str:
    """A block of rows for each budget, the floor, and a line for each failure."""
    shown = [k for k in comparison.figures if k not in _REPORT_ONLY]
    head = ["sampler", "steps", "NFE", "seconds", "MB", *(WORDS.get(k, (k, k))[0] for k in shown)]
    good = [row for row in ordered(comparison.rows) if row.error is None]
    lines = aligned([head, *(_cells(comparison, row, shown) for row in good), _floor(comparison, shown)])
    text_lines, before = lines[:2], good[0].budget if good else None
    for row, line in zip(good, lines[2:], strict=False):
        if row.budget != before:
            text_lines.append("")
        before = row.budget
        text_lines.append(line)
    if comparison.floors:
        text_lines += ["", lines[-1]]
    for row in comparison.rows:
        if row.error is not None:
            budget = "" if row.budget is None else f", budget {row.budget}"
            text_lines.append(f"{comparison.label(row)}{budget}: {row.error}")
    return "\n".join(text_lines)


def _cells(comparison: Comparison, row: Row, shown: list[str]) -> list[str]:
    steps = "auto" if row.steps is None else str(row.steps)
    memory = "" if row.memory is None else f"{row.memory:.0f}"
    measured = [text(row.interval(k)) for k in shown]
    return [comparison.label(row), steps, f"{row.nfe:.4g}", f"{row.interval('seconds').mean:.2g}", memory, *measured]


def _floor(comparison: Comparison, shown: list[str]) -> list[str]:
    floors = [text(student(comparison.floors[k])) if k in comparison.floors else "" for k in shown]
    return ["floor: real data", "", "", "", "", *floors]


def legend(comparison: Comparison) -> str:
    """A line for each heading that needs words."""
    notes = [f"{WORDS[k][0]}: {WORDS[k][1]}" for k in comparison.figures if k in WORDS and k not in _REPORT_ONLY]
    times = f"seconds: to draw {comparison.n:,} samples, those of one seed; MB: peak memory above that before"
    return "\n".join(["NFE: network evaluations per sample, counted", times, *notes])
