"""One self-contained HTML report: verdict, table, plots, pictures, how it was measured; opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from scoresde.results.rows import Rows
from scoresde.results.table import html, legend

_HOW = "Click a heading to sort. Bold: the best of its budget."

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1480px;margin:2em auto;padding:0 1.2em}
h1{font-size:1.5em;margin-bottom:.1em}h2{font-size:1.15em;margin-top:2em;border-bottom:1px solid #ddd}
p.sub{color:#666;margin-top:0}.wide{overflow-x:auto}
th{cursor:pointer;user-select:none}
th[data-dir="1"]:after{content:" \\25B2"}th[data-dir="-1"]:after{content:" \\25BC"}
img,svg{max-width:min(100%,1180px);height:auto}pre{background:#f6f6f6;padding:1em;overflow-x:auto;font-size:12px}
ul.verdict{list-style:none;padding:0}ul.verdict li.head{font-weight:600;margin-top:.6em}
ul.verdict li{margin:.25em 0}ul.verdict li.item{padding-left:1.2em}
dl{display:grid;grid-template-columns:max-content 1fr;
gap:.1em 1em;font-size:13px;color:#555}
dt{font-weight:600}dd{margin:0}
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


def page(
    results: Rows,
    heading: str,
    verdict: Sequence[str],
    images: Mapping[str, Sequence[Path]],
    config: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """The report as one HTML document that needs nothing else.

    Args:
        results: the results.
        heading: the title of the page.
        verdict: lines; those that begin with a space belong to the one before.
        images: for each heading its SVG or PNG files.
        config: the configuration, without secrets.
        versions: what the results were made with.
    """
    made = "Made with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."
    notes = "".join(f"<p>{_safe(note)}</p>" for note in [*results.notes, made])
    numbers = f"{results.n:,} samples of each of {results.seeds} seeds" if results.n else "results of a folder"
    parts = [
        f"<h1>{_safe(heading)}</h1><p class=sub>{_safe(results.title)}; {numbers}</p>",
        _section("Verdict", f"<ul class=verdict>{''.join(_item(line) for line in verdict)}</ul>") if verdict else "",
        _section("Table", f"<p>{_HOW}</p><div class=wide>{html(results)}</div>{_words(results)}"),
        *(_section(title, "".join(map(_image, files))) for title, files in images.items() if files),
        _section("How it was measured", notes),
        _section("Configuration", f"<pre>{_safe(_yaml(config))}</pre>") if config else "",
    ]
    head = f"<meta charset=utf-8><title>{_safe(heading)}</title><style>{_STYLE}</style>"
    body = f"{''.join(parts)}<script>{_SCRIPT}</script>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>\n"


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _safe(words: object) -> str:
    return escape(str(words))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_safe(title)}</h2>{content}</section>"


def _item(line: str) -> str:
    return f"<li class={'item' if line.startswith(' ') else 'head'}>{_safe(line.strip())}</li>"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f'<p><img alt="{_safe(path.stem)}" src="data:image/{kind};base64,{data}"></p>'


def _words(results: Rows) -> str:
    terms = legend(results, brief=False)
    return "<dl>" + "".join(f"<dt>{_safe(k)}</dt><dd>{_safe(v)}</dd>" for k, v in terms.items()) + "</dl>"
