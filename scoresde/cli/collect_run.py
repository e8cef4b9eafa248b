"""The table of a sweep: printed, written beside its jobs, drawn, and logged."""

import math
import re
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from scoresde import progress
from scoresde.build import build
from scoresde.cli.settings import CollectSettings, Settings, listed
from scoresde.errors import did_you_mean, refuse
from scoresde.files import write_json, write_text, writing
from scoresde.loggers import Logger, NoLogger
from scoresde.named import config_folder
from scoresde.plain import key_of
from scoresde.runs.folder import quoted
from scoresde.sweeps.record import SweepRecord
from scoresde.sweeps.table import SweepTable

TABLE, CONTENT = "table.csv", "table.json"
_NARROWEST = 60
_MOST_KEYS = 8  # in parallel coordinates


def collect(settings: CollectSettings, cfg: dict[str, Any]) -> None:
    """Collect as configured.

    Raises:
        InputError: there is nothing to collect, or no such metric or key; nothing is written then.
    """
    logger: Logger = build(cfg["logger"], "logger", settings.packages, Logger | None) or NoLogger()
    table = SweepTable.of(Path(settings.folder), settings.metric)
    keys = [_key(key, table.keys) for key in listed(settings.keys or [])]
    out = Path(settings.out or settings.folder)
    log(logger, table, out, show(table, out, keys), cfg)


def log(logger: Logger, table: SweepTable, out: Path, pictures: list[Path], cfg: dict[str, Any]) -> None:
    """Log a table and its pictures as a run of the group of its jobs.

    Args:
        logger: not started yet.
        table: of a sweep.
        out: the folder of its files.
        pictures: in it.
        cfg: the configuration of the command.
    """
    name = Path(table.title).name
    logger.start(out, cfg, f"table of {name}", name, command="sweep")
    try:
        logger.table("sweep", table.header(), table.flat(), 0)
        for path in pictures:
            logger.picture(path.stem, path, 0)
    finally:
        logger.finish()


def logger_of_jobs(sweep: SweepRecord, flags: Sequence[str]) -> Logger:
    """The logger that the jobs of a sweep have, for their table.

    Args:
        sweep: its record.
        flags: that were typed, among them the folder of options of the user's own.
    """
    words = list(chain(*(flag.split("=", 1) for flag in flags)))
    own = [Path(folder).absolute() for flag, folder in pairwise(words) if flag in ("--config-dir", "-cd")]
    settings = [setting for setting in sweep.fixed if key_of(setting).partition(".")[0] in ("logger", "allow")]
    settings += [f"hydra.searchpath=[{quoted(str(folder))}]" for folder in own[-1:]]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose(sweep.command, settings)
    if not cfg.get("logger"):
        return NoLogger()
    described: Any = OmegaConf.to_container(cfg.logger, resolve=True)
    logger: Logger = build(described, "logger", Settings(cfg.allow).packages, Logger)
    return logger


def _key(typed: str, known: list[str]) -> str:
    """The key that is meant, for which its last part will do."""
    found = [key for key in known if f".{key}".endswith(f".{typed}")]
    wrong = f"keys: {typed} does not differ between jobs{did_you_mean(typed, known)} (keys: {', '.join(known)})"
    refuse(not found, wrong)
    return found[0]


def show(table: SweepTable, out: Path, keys: list[str] | None = None) -> list[Path]:
    """Print a table and write its files; returns the pictures.

    Args:
        table: to be shown.
        out: the folder of its files.
        keys: against which the metric is drawn; None or empty for all.

    Raises:
        InputError: it cannot be written.
    """
    print(table.text(progress.columns(_NARROWEST)))
    with writing(out, "out"):
        out.mkdir(parents=True, exist_ok=True)
    write_text(out / TABLE, table.csv())
    write_json(out / CONTENT, table.content())
    pictures = _drawn(table, out, keys or table.keys[:_MOST_KEYS])
    files = [f"table    {out / TABLE}, {out / CONTENT}", *(f"plot     {path}" for path in pictures)]
    print("", *files, sep="\n", flush=True)
    return pictures


def _drawn(table: SweepTable, out: Path, keys: list[str]) -> list[Path]:
    """The metric against these keys; of settings that differ in others the best one counts."""
    points = {}
    for row in reversed(table.settings):  # the best one comes last
        if math.isfinite(table.rank(row)):
            points[repr([row.settings.get(key) for key in keys])] = (row.settings, row.values[table.metric])
    if not keys or len(points) < 2:
        return []
    from scoresde.figures.sweep import sweep

    name = re.sub(r"[^\w.-]+", "_", "-".join((table.metric, *keys)))[:120]
    path = out / f"{name}.png"
    sweep(list(points.values()), keys, table.quantity(table.metric), path, table.title)
    return [path]
