"""One comparison from beginning to end: problem, samplers, rows as they come, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from scoresde import progress, runs
from scoresde.build import build, check
from scoresde.cli.commands.compare import CompareSettings
from scoresde.cli.compare_report import finish
from scoresde.cli.jobs import sweeping, varied
from scoresde.cli.sampler_entries import contestants, sdes
from scoresde.comparison import Plan, Problem, Race, Reference, Trained
from scoresde.comparison.output import write
from scoresde.errors import InputError, require
from scoresde.loggers import Logger
from scoresde.results import Results
from scoresde.sde import SDE

_GIVE = "give run=FOLDER of a trained run, problem=mixture_2d (or another exact one), or folder=FOLDER of results"
_BAR = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}, {remaining} left]"


def compare(settings: CompareSettings, cfg: dict[str, Any]) -> float | None:
    """Compare as configured; returns `Results.best`, for sweepers.

    Raises:
        InputError: something in the configuration cannot be had; a folder is made only after all is checked.
    """
    given = [k for k in ("run", "problem", "folder") if cfg[k]]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given)}: only one is possible; {_GIVE}" if given else f"run: not given; {_GIVE}"
        )
    logger: Logger | None = build(cfg["logger"], "logger", settings.packages, Logger) if cfg["logger"] else None
    if given == ["folder"]:
        from scoresde.comparison.collect import collected

        check(cfg["metrics"], "metrics", settings.packages)
        metrics = build(cfg["metrics"], "metrics", settings.packages) or {}
        found = collected(Path(str(settings.folder)), metrics, settings.packages)
        out = _folder(settings)
        finish(out, found, cfg, logger)
        return found.best()
    race = Race(_plan(cfg, settings))
    out = _folder(settings)
    _say(race, out)
    _run(race, out, cfg, logger)
    finish(out, race.result, cfg, logger)
    if all(row.error is not None for row in race.result.rows):
        raise InputError(f"solvers: none of them has a result, see {out / 'report.html'}")
    return race.result.best()


def _plan(cfg: Mapping[str, Any], settings: CompareSettings) -> Plan:
    """Everything that is compared, built and checked."""
    allow, folder = settings.packages, None if settings.run is None else Path(settings.run)
    reference = build(cfg["reference"], "reference", allow, Reference)
    check(cfg["metrics"], "metrics", allow)
    samplers = contestants(cfg["solvers"], settings.all_tolerances, cfg["sampler"], allow, folder)
    device = runs.pick_device(settings.device)
    problem = _problem(cfg, settings)
    paths = _paths(cfg, problem, settings)
    return Plan(
        problem,
        samplers,
        paths,
        settings.all_budgets,
        settings.n,
        settings.seed,
        settings.seeds,
        build(cfg["metrics"], "metrics", allow) or {},
        reference,
        settings.batch_size,
        getattr(torch, settings.dtype),
        device,
    )


def _problem(cfg: Mapping[str, Any], settings: CompareSettings) -> Problem:
    if settings.run is None:
        require(settings.label is None, "label", settings.label, "it belongs to a run with classes; give null")
        require(settings.guidance == 1, "guidance", settings.guidance, "it belongs to a run with classes; give 1")
        problem: Problem = build(cfg["problem"], "problem", settings.packages, Problem)
        return problem
    run = runs.load(settings.run, settings.checkpoint, settings.device, settings.weights, settings.packages)
    return Trained(run, settings.label, settings.guidance)


def _paths(cfg: Mapping[str, Any], problem: Problem, settings: CompareSettings) -> dict[str, SDE | None]:
    chosen = cfg["sde"]
    if settings.run is None and not chosen and not cfg["sdes"]:
        return sdes(["vp"], None, lambda: problem.sigma_max, settings.packages)
    found = sdes(cfg["sdes"], chosen, lambda: problem.sigma_max, settings.packages)
    if isinstance(problem, Trained) and "" in found:
        return {type(problem.run.sde).__name__: None}
    return found


def _folder(settings: CompareSettings) -> Path:
    """A new folder in runs/ (in a sweep: in that of the sweep), or the one that was asked for."""
    try:
        if settings.out is not None and not sweeping():
            out = Path(settings.out)
            out.mkdir(parents=True, exist_ok=True)
            return out
        if sweeping():
            parent = Path(settings.out or HydraConfig.get().sweep.dir)
            return runs.new_folder(parent, "-".join([str(HydraConfig.get().job.num), *varied()]))
        return runs.new_folder(Path("runs"), f"compare-{runs.timestamp()}")
    except OSError as error:
        raise InputError(f"out: no folder can be made here ({error}); give another place") from None


def _say(race: Race, out: Path) -> None:
    plan = race.plan
    rows = f"{len(race.entries)} rows of {plan.seeds} x {plan.n:,} samples"
    print(f"problem  {plan.problem.name}\nrows     {rows}, {race.work:,.0f} evaluations\nout      {out}", flush=True)


def _run(race: Race, out: Path, cfg: Mapping[str, Any], logger: Logger | None) -> None:
    """Measure row after row; after each, all finished ones are on disk. Ctrl-C makes a report of them, and stops."""
    runs.write_config(out, cfg)
    labels = [f"{c.name}, {b or 'own steps'}" for _, c, b in race.entries]
    with progress.bar(race.work, "preparing", bar_format=_BAR, unit_scale=True) as bar:

        def on_work(amount: float) -> None:
            bar.update(amount)

        race.listen(on_work)
        try:
            for i, _ in enumerate(race.rows()):
                write(out, _noted(race), {"config": runs.without_secrets(cfg)})
                bar.set_description(labels[i + 1] if i + 1 < len(labels) else "done")
        except KeyboardInterrupt:
            bar.close()
            finish(out, _noted(race, interrupted=True), cfg, logger)
            raise
        _noted(race)


def _noted(race: Race, interrupted: bool = False) -> Results:
    """The result with what its reader must know."""
    race.result.notes = race.notes() + (["Stopped before all rows were measured."] if interrupted else [])
    return race.result
