"""A comparison from its first row to its report: progress, files, plots and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoresde import progress, runs
from scoresde.comparison.measure import Comparison
from scoresde.comparison.notes import notes
from scoresde.figures.choices import choices
from scoresde.figures.pictures import pictures
from scoresde.figures.plots import quality
from scoresde.parallel.shared import sharers
from scoresde.results import Results
from scoresde.results.page import page
from scoresde.results.verdict import verdict
from scoresde.runs.report import REPORT, write

_BAR = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}, {remaining} left]"


def measured(comparison: Comparison, folder: Path | None = None, config: Mapping[str, Any] | None = None) -> Results:
    """Measure row after row, with a progress bar; after each row all finished ones are in the folder, if given.

    Ctrl-C leaves a note in the results of the comparison, which hold the finished rows.
    """
    labels = [f"{row.name}, {row.budget or 'adaptive'}" for _, row in comparison.entries]
    results = comparison.results
    hidden = not sharers().first
    with progress.bar(comparison.work, "preparing", hidden, bar_format=_BAR, unit_scale=True) as bar:
        comparison.on_work = bar.update
        try:
            for label, _ in zip([*labels[1:], "done"], comparison.rows(), strict=True):
                results.notes = notes(comparison)
                if folder is not None and not hidden:
                    write(folder, results, {"config": config})
                bar.set_description(label)
        except KeyboardInterrupt:
            results.notes = [*notes(comparison), "Stopped before all rows were measured."]
            raise
    return results


@dataclass(frozen=True)
class Report:
    """The report of a comparison: its page, its pictures as PNG, and the verdict."""

    path: Path
    images: list[Path]
    verdict: list[str]


def report(folder: Path, results: Results, config: Mapping[str, Any]) -> Report:
    """Write every file of a comparison.

    Args:
        folder: where they go.
        results: the results.
        config: the configuration, without secrets.
    """
    said = verdict(results)
    made = write(folder, results, {"verdict": said, "config": config})
    plots = [files for k in ("nfe", "seconds") if (files := quality(results, k, folder / f"quality-{k}"))]
    shown, taken = pictures(results, folder), choices(results, folder / "choices")
    images = {"Plots": [files[-1] for files in plots], "Choices of auto": taken[-1:], "Samples": shown}
    runs.write_text(folder / REPORT, page(results, said, images, config, made))
    return Report(folder / REPORT, [*(files[0] for files in plots), *taken[:1], *shown], said)
