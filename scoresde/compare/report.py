"""One self-contained report.html: verdict, table, plots, pictures, how it was measured; opens without a network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scoresde import runs
from scoresde.compare.intervals import Interval, student, text
from scoresde.compare.rows import WORDS, Comparison, Row, ordered

REPORT = "report.html"

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2em auto;padding:0 1.2em}
h1{font-size:1.5em;margin-bottom:.1em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ddd}
p.sub{color:#666;margin-top:0}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25em .7em;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
th:first-child,td:first-child{text-align:left}th{cursor:pointer;background:#f6f6f6;user-select:none}
th[data-dir="1"]:after{content:" \\25B2"}th[data-dir="-1"]:after{content:" \\25BC"}
tr.best td.best{font-weight:600;background:#e8f1f8}tr.floor td{color:#666;font-style:italic}
tr.failed td{color:#9a3412;text-align:left;white-space:normal}
img,svg{max-width:100%;height:auto}pre{background:#f6f6f6;padding:1em;overflow-x:auto;font-size:12px}
ul.verdict{list-style:none;padding:0}ul.verdict li.head{font-weight:600;margin-top:.6em}
ul.verdict li{margin:.25em 0}ul.verdict li.item{padding-left:1.2em}
dl{display:grid;grid-template-columns:max-content 1fr;
gap:.1em 1em;font-size:13px;color:#555}
dt{font-weight:600}dd{margin:0}tr.first td{border-top:2px solid #ccc}
"""
# A click on a heading sorts; rows without a number in that column go last.
_SCRIPT = """
document.querySelectorAll('th').forEach(function(th){th.onclick=function(){
var body=th.closest('table').tBodies[0],i=th.cellIndex,dir=th.dataset.dir=='1'?-1:1;
th.parentNode.querySelectorAll('th').forEach(function(o){delete o.dataset.dir});th.dataset.dir=dir;
var key=function(tr){var c=tr.cells[i];return c?c.dataset.v:''};
Array.from(body.rows).sort(function(a,b){var x=key(a)||'',y=key(b)||'';if(x===''||y==='')return (x==='')-(y==='');
var n=parseFloat(x)-parseFloat(y);return dir*(isNaN(n)?x.localeCompare(y):n)}).forEach(function(r){body.append(r)});}});
"""


def write_report(
    folder: Path,
    comparison: Comparison,
    verdict: Sequence[str],
    plots: Sequence[Path],
    pictures: Sequence[Path],
    config: Mapping[str, Any],
) -> Path:
    """Write report.html with everything in it.

    Args:
        folder: where it goes.
        comparison: the results.
        verdict: lines; those that begin with a space belong to the one before.
        plots: SVG or PNG files.
        pictures: PNG files.
        config: the configuration, without secrets.
    """
    numbers = f"{comparison.n:,} samples of each of {comparison.seeds} seeds" if comparison.n else "results of a folder"
    parts = [
        f"<h1>Comparison of samplers</h1><p class=sub>{_safe(comparison.problem)}; {numbers}</p>",
        _section("Verdict", f"<ul class=verdict>{''.join(_item(line) for line in verdict)}</ul>"),
        _section(
            "Table",
            "<p>Click on a heading to sort. Bold: the lowest of its budget.</p>"
            + _table(comparison)
            + _words(comparison),
        ),
        _section("Plots", "".join(_image(p) for p in plots)) if plots else "",
        _section("Samples", "".join(_image(p) for p in pictures)) if pictures else "",
        _section("How it was measured", _notes(comparison)),
        _section(
            "Configuration", f"<pre>{_safe(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))}</pre>"
        ),
    ]
    head = f"<meta charset=utf-8><title>Comparison of samplers</title><style>{_STYLE}</style>"
    body = "".join(parts)
    path = folder / REPORT
    runs.write_text(
        path, f"<!doctype html><html lang=en><head>{head}</head><body>{body}<script>{_SCRIPT}</script></body></html>\n"
    )
    return path


def _safe(words: object) -> str:
    return html.escape(str(words))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_safe(title)}</h2>{content}</section>"


def _item(line: str) -> str:
    return f"<li class={'item' if line.startswith(' ') else 'head'}>{_safe(line.strip())}</li>"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f'<p><img alt="{_safe(path.stem)}" src="data:image/{kind};base64,{data}"></p>'


def _cell(shown: str, value: object = None, best: bool = False) -> str:
    number = value if not isinstance(value, float) or math.isfinite(value) else ""
    mark = " class=best" if best else ""
    return f'<td{mark} data-v="{_safe("" if number is None else number)}">{_safe(shown)}</td>'


def _measured(interval: Interval, best: bool = False) -> str:
    return _cell(text(interval), interval.mean, best)


def _table(comparison: Comparison) -> str:
    figures = comparison.figures
    head = ["sampler", "SDE", "budget", "steps", "NFE", "seconds", "MB", *(WORDS.get(k, (k, k))[0] for k in figures)]
    lines = [_line(row, comparison, figures) for row in ordered(comparison.rows)]
    if comparison.floors:
        floors = [_measured(student(comparison.floors[k])) if k in comparison.floors else "<td></td>" for k in figures]
        lines.append(f"<tr class=floor><td>floor: real data</td>{'<td></td>' * 6}{''.join(floors)}</tr>")
    headings = "".join(f"<th>{_safe(h)}</th>" for h in head)
    return f"<div class=wide><table><thead><tr>{headings}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _line(row: Row, comparison: Comparison, figures: Sequence[str]) -> str:
    budget = "" if row.budget is None else str(row.budget)
    first = [_cell(row.name, row.name), _cell(row.sde, row.sde), _cell(budget, row.budget)]
    if row.error is not None:
        return f"<tr class=failed>{''.join(first)}<td colspan={4 + len(figures)}>{_safe(row.error)}</td></tr>"
    memory = "" if row.memory is None else f"{row.memory:.0f}"
    cells = [
        *first,
        _cell("auto" if row.steps is None else str(row.steps), row.steps),
        _cell(f"{row.nfe:.4g}", row.nfe),
        _measured(row.interval("seconds")),
        _cell(memory, row.memory),
        *(_measured(row.interval(k), _is_best(row, comparison, k)) for k in figures),
    ]
    return f"<tr class=best>{''.join(cells)}</tr>"


def _is_best(row: Row, comparison: Comparison, figure: str) -> bool:
    mean = row.interval(figure).mean
    peers = [r.interval(figure).mean for r in comparison.rows if r.budget == row.budget]
    return math.isfinite(mean) and mean <= min((m for m in peers if math.isfinite(m)), default=math.inf)


def _words(comparison: Comparison) -> str:
    terms = {WORDS[k][0]: WORDS[k][1] for k in comparison.figures if k in WORDS}
    terms |= {"seconds": "to draw the samples of one seed", "MB": "peak memory above that before"}
    return "<dl>" + "".join(f"<dt>{_safe(k)}</dt><dd>{_safe(v)}</dd>" for k, v in terms.items()) + "</dl>"


def _notes(comparison: Comparison) -> str:
    made = ", ".join(f"{k} {v}" for k, v in runs.versions().items())
    return "".join(f"<p>{_safe(note)}</p>" for note in [*comparison.notes, f"Made with {made}."])
