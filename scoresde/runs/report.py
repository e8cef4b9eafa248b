"""The files of a comparison or an evaluation: results.json and results.csv, with how and when they were made."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from scoresde.files import write_json, write_text
from scoresde.results import Results
from scoresde.results.page import Made
from scoresde.runs.folder import RESULTS, versions

TABLE, REPORT = "results.csv", "report.html"
EVALUATIONS = "evaluations"  # folder in a run


def write(folder: Path, results: Results, extra: Mapping[str, Any] | None = None) -> Made:
    """Write results.json and results.csv, which a reader sees whole; returns what the page says of their making."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Made(versions(), f"{datetime.now():%Y-%m-%d %H:%M}")
    write_json(folder / RESULTS, {**results.content(), **(extra or {}), **made._asdict()})
    write_text(folder / TABLE, results.csv())
    return made
