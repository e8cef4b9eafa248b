"""The end of a comparison: its table and verdict in the terminal, its files, and the mirror in Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde import runs
from scoresde.comparison.output import RESULTS, TABLE, report
from scoresde.loggers import Logger
from scoresde.results import Results
from scoresde.results.table import explained


def finish(out: Path, results: Results, cfg: Mapping[str, Any], logger: Logger | None) -> None:
    """Print the table and the verdict, and write every file of the results."""
    config = runs.without_secrets(cfg)
    found = report(out, results, config)
    print(f"\n{explained(results)}\n")
    print("\n".join(found.verdict))
    print(f"\nreport   {found.path}\ntables   {out / TABLE}, {out / RESULTS}", flush=True)
    if logger is not None:
        _log(logger, out, results, config, found.images)


def _log(logger: Logger, out: Path, results: Results, config: Mapping[str, Any], files: list[Path]) -> None:
    logger.start(out, config, out.name)
    try:
        logger.table("comparison", results.header(), results.flat(), 0)
        for file in files:
            logger.picture(file.stem, file, 0)
    finally:
        logger.finish()
