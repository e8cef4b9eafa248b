"""What a folder holds, as a table, as CSV or as JSON."""

import csv
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from scoresde import progress
from scoresde.files import strict_json
from scoresde.results import Quantity
from scoresde.results.table import aligned
from scoresde.runs.listing import Entry, entries

_LEFT = ("name", "state", "data", "sde", "model")  # columns that begin at the left
_FIRST_TO_GO = ("when", "model", "data", "floor", "steps", "sde")  # in a narrow terminal
_NARROWEST, _MOST = 40, 10  # columns of text; results besides runs that are shown

Columns = list[tuple[str, list[str]]]  # headings with their cells


def show(folder: str, form: str) -> None:
    """Print what a folder holds: `form` is table, csv or json.

    Raises:
        InputError: there is no such folder.
    """
    found = entries(Path(folder))
    records = list(map(_record, found))
    if form == "json":
        print(strict_json({"folder": folder, "results": records}), end="")
    elif form == "csv":
        rows = csv.DictWriter(sys.stdout, dict.fromkeys(key for one in records for key in one), lineterminator="\n")
        rows.writeheader()
        rows.writerows({key: _plain(value) for key, value in one.items()} for one in records)
    else:
        print(_text(found, Path(folder), progress.columns(_NARROWEST)))


def _record(entry: Entry) -> dict[str, Any]:
    """Everything about an entry, with each quantity and its floor under names of their own."""
    record = {**vars(entry), "path": str(entry.path), "when": _date(entry).isoformat()}
    for quantity, (value, floor) in record.pop("best").items():
        record |= {quantity.key: value, f"{quantity.key}_floor": floor}
    return record


def _date(entry: Entry) -> datetime:
    return datetime.fromtimestamp(entry.when).replace(microsecond=0)


def _plain(value: Any) -> str:
    """As a terminal can show it: the names in a folder may hold anything."""
    return "" if value is None else "".join(c if c.isprintable() else "?" for c in str(value))


def _text(found: Sequence[Entry], root: Path, width: int) -> str:
    """A table of the runs, what their columns mean, what is wrong with some, and the newest of the other results."""
    runs = [entry for entry in found if entry.kind == "run"]
    others = [entry for entry in found if entry.kind != "run"]
    quantities = list(dict.fromkeys(q for entry in runs for q in entry.best))
    meanings = [(q.heading, f"{q.title}, of the best sampler; floor: that of real data") for q in quantities]
    remarks = [(entry.state, f"{entry.path}\n{entry.about}") for entry in runs if entry.about]
    remarks += [(entry.kind, f"{entry.path}\n{entry.about}") for entry in others[:_MOST]]
    more = f"{len(others) - _MOST} older comparisons, samples and grids: see format=csv" * (len(others) > _MOST)
    table = "\n".join(_table(runs, root, quantities, width)) if runs else ""
    blocks = filter(None, [table, _notes(meanings, width), _notes(remarks, width), more])
    return "\n\n".join(blocks) or f"there are no runs in {_plain(root)}; scoresde train makes one"


def _table(runs: Sequence[Entry], root: Path, quantities: Sequence[Quantity], width: int) -> list[str]:
    """The runs, those of a sweep together below its name, with the columns for which there is room."""
    groups = {entry.path: entry.path.parent for entry in runs if root not in (entry.path, entry.path.parent)}
    newest: dict[Path, float] = {}
    for entry in runs:
        newest.setdefault(groups.get(entry.path, entry.path), entry.when)
    runs = sorted(runs, key=lambda entry: -newest[groups.get(entry.path, entry.path)])
    columns = _columns(runs, groups, quantities)
    for heading in _FIRST_TO_GO:
        if max(map(len, _lines(columns))) > width:
            columns = [column for column in columns if column[0] != heading]
    (name, names), *others = columns
    most = max(map(len, names)) + width - max(map(len, _lines(columns)))
    head, rule, *lines = _lines([(name, [_cut(text, most) for text in names]), *others])
    shown = [head, rule]
    for group, own in groupby(zip(runs, lines, strict=True), key=lambda pair: groups.get(pair[0].path)):
        shown += [f"{_plain(group.relative_to(root))}/"] if group else []
        shown += [line for _, line in own]
    return shown


def _columns(runs: Sequence[Entry], groups: Mapping[Path, Path], quantities: Sequence[Quantity]) -> Columns:
    """Those in which there is something."""
    columns: list[tuple[str, list[Any]]] = [
        ("name", ["  " * (entry.path in groups) + entry.path.name for entry in runs]),
        *((key, [getattr(entry, key) for entry in runs]) for key in _LEFT[1:]),
        ("steps", [_steps(entry) for entry in runs]),
        ("when", [f"{_date(entry):%Y-%m-%d %H:%M}" for entry in runs]),
    ]
    for q in quantities:
        pairs = [entry.best.get(q, (None, None)) for entry in runs]
        columns += [(name, [pair[i] for pair in pairs]) for i, name in enumerate((q.heading, "floor"))]
    return [(name, list(map(_cell, cells))) for name, cells in columns if any(cells)]


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _plain(value)


def _steps(entry: Entry) -> str:
    counts = [entry.done, entry.steps] if entry.done != entry.steps else [entry.done]
    return " of ".join(f"{count:,}" for count in counts if count is not None)


def _lines(columns: Columns) -> list[str]:
    headings, cells = zip(*columns, strict=True)
    return aligned([headings, *zip(*cells, strict=True)], sum(name in _LEFT for name in headings))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def _notes(lines: Sequence[tuple[str, str]], width: int) -> str:
    """A text after each word, wrapped."""
    margin = max((len(word) for word, _ in lines), default=0) + 2
    found = []
    for word, text in lines:
        for k, part in enumerate(text.splitlines()):
            first = " " * margin if k else word.ljust(margin)
            found.append(textwrap.fill(_plain(part), width, initial_indent=first, subsequent_indent=" " * margin))
    return "\n".join(found)
