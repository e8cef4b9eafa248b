"""One self-contained HTML report: verdict, table, plots, pictures, how it was measured; opens without a network."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from scoresde.results.card import html as cards
from scoresde.results.rows import Rows
from scoresde.results.table import html, legend
from scoresde.results.verdict import WARNING

_HOW = "Click a heading to sort. Bold: the best mean of its budget."


class Made(NamedTuple):
    """With which versions, and when, results were made."""

    versions: Mapping[str, str]
    date: str


def page(
    results: Rows,
    verdict: Sequence[str],
    images: Mapping[str, Sequence[Path]],
    config: Mapping[str, Any],
    made: Made,
    title: str = "Comparison of samplers",
    table: str | None = None,
) -> str:
    """The report as one HTML document that needs nothing else.

    Args:
        results: the results.
        verdict: lines, of which the first is the answer; those that begin with a space belong to the one before.
        images: for each heading its SVG or PNG files.
        config: the configuration, without secrets.
        made: with what and when.
        title: of the page.
        table: HTML in place of the table of samplers.
    """
    notes = [note for note in results.notes if not note.startswith(WARNING)]  # which stand in the verdict
    versions = "Made with " + ", ".join(f"{k} {v}" for k, v in made.versions.items()) + "."
    seeds = f" of each of {results.seeds} seeds" if results.seeds > 1 else ""
    numbers = f"{results.n:,} samples{seeds}; " if results.n else ""  # none of a model, or of a folder
    about = f"{results.title}; {numbers}{made.date}, scoresde {made.versions['scoresde']}"
    parts = [
        f"<h1>{escape(title)}</h1><p class=sub>{escape(about)}</p><p class=answer>{escape(verdict[0])}</p>",
        *(f"<p class=warning>{escape(line)}</p>" for line in verdict[1:] if line.startswith(WARNING)),
        _section("Verdict", "".join(map(_item, _details(verdict))), "ul class=verdict"),
        _section("Table", table or f"<p>{_HOW}</p>{html(results)}{_words(results)}"),
        *(_section(title, "".join(map(_image, files))) for title, files in images.items()),
        _section("Feature cards", cards(results.cards, {q.key: q.heading for q in results.measured})),
        _section("How it was measured", "".join(f"<p>{escape(note)}</p>" for note in [*notes, versions])),
        _section("Configuration", escape(_yaml(config)), "pre"),
    ]
    view = "<meta name=viewport content='width=device-width, initial-scale=1'>"
    head = f"<meta charset=utf-8>{view}<title>{escape(title)}</title><style>{_beside('report.css')}</style>"
    body = f"{''.join(parts)}<script>{_beside('report.js')}</script>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>\n"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True) if config else ""


def _section(title: str, content: str, element: str = "div") -> str:
    """A heading with an element below it; nothing if there is no content."""
    inner = f"<{element}>{content}</{element.split()[0]}>"
    return f"<section><h2>{escape(title)}</h2>{inner}</section>" if content else ""


def _details(verdict: Sequence[str]) -> list[str]:
    return [line for line in verdict[1:] if not line.startswith(WARNING)]


def _item(line: str) -> str:
    return f"<li class={'item' if line.startswith(' ') else 'head'}>{escape(line.strip())}</li>"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    return f'<p class=picture><img alt="{escape(path.stem)}" src="data:image/{kind};base64,{data}"></p>'


def _words(results: Rows) -> str:
    terms = legend(results, brief=False)
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items()) + "</dl>"
