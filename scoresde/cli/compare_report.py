"""What is made of a comparison: table, verdict, plots, pictures, report, and the mirror in Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoresde import runs
from scoresde.cli.compare_table import legend, table
from scoresde.compare.pictures import pictures
from scoresde.compare.plots import quality
from scoresde.compare.report import write_report
from scoresde.compare.rows import RESULTS, TABLE, Comparison, flat, header, write
from scoresde.compare.verdict import verdict
from scoresde.loggers import Logger


def finish(out: Path, comparison: Comparison, cfg: Mapping[str, Any], logger: Logger | None) -> None:
    """Print the table and the verdict, and write every file of the result."""
    config = runs.without_secrets(cfg)
    said = verdict(comparison)
    write(out, comparison, {"verdict": said, "config": config, "versions": runs.versions()})
    plots = [quality(comparison, k, out / f"quality-{k}") for k in ("nfe", "seconds")]
    shown = pictures(comparison, out)
    report = write_report(out, comparison, said, [p[-1] for p in plots if p], shown, config)
    print(f"\n{table(comparison)}\n\n{legend(comparison)}\n")
    print("\n".join(said))
    print(f"\nreport   {report}\ntables   {out / TABLE}, {out / RESULTS}", flush=True)
    if logger is not None:
        _log(logger, out, comparison, config, [p[0] for p in plots if p] + shown)


def _log(logger: Logger, out: Path, comparison: Comparison, config: Mapping[str, Any], files: Sequence[Path]) -> None:
    logger.start(out, config, out.name)
    try:
        logger.table("comparison", header(comparison), flat(comparison), 0)
        for file in files:
            logger.picture(file.stem, file, 0)
    finally:
        logger.finish()
