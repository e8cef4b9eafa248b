"""One comparison from beginning to end: problem, samplers, rows as they come, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from scoresde import runs
from scoresde.build import build, check
from scoresde.cli.commands.compare import CompareSettings
from scoresde.cli.compare_report import finish
from scoresde.cli.jobs import sweeping, varied
from scoresde.comparison import Comparison, Plan, Problem, Reference, Trained
from scoresde.comparison.entries import Defaults, candidates, sde_of, sdes
from scoresde.comparison.output import measured
from scoresde.errors import InputError, require
from scoresde.loggers import Logger
from scoresde.sampling import Corrector, Grid
from scoresde.sde import SDE

_GIVE = "give run=FOLDER of a trained run, problem=mixture_2d (or another exact one), or folder=FOLDER of results"


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
    comparison = Comparison(_plan(cfg, settings))
    out = _folder(settings)
    _say(comparison, out)
    _run(comparison, out, cfg, logger)
    if not comparison.results.succeeded:
        raise InputError(f"solvers: none of them has a result, see {out / 'report.html'}")
    return comparison.results.best()


def _plan(cfg: Mapping[str, Any], settings: CompareSettings) -> Plan:
    """Everything that is compared, built and checked."""
    allow, folder = settings.packages, None if settings.run is None else Path(settings.run)
    reference = build(cfg["reference"], "reference", allow, Reference)
    check(cfg["metrics"], "metrics", allow)
    defaults = _defaults(cfg, settings, folder)
    samplers = candidates(cfg["solvers"], defaults)
    device = runs.pick_device(settings.device)
    problem = _problem(cfg, settings)
    return Plan(
        problem,
        samplers,
        _sdes(cfg, problem, defaults),
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


def _defaults(cfg: Mapping[str, Any], settings: CompareSettings, run: Path | None) -> Defaults:
    """What the entries of `solvers` leave open."""
    parts = {"grid": Grid, "corrector": Corrector}
    built = {
        key: build(cfg["sampler"].get(key), key, settings.packages, kind, run=run) if cfg["sampler"].get(key) else None
        for key, kind in parts.items()
    }
    folders = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.path]
    return Defaults(settings.all_tolerances, **built, allow=settings.packages, run=run, folders=folders[::-1])


def _sdes(cfg: Mapping[str, Any], problem: Problem, defaults: Defaults) -> dict[str, SDE | None]:
    """The SDEs of `sdes`, or that of `sde`, or that of the run, or VP."""
    names, chosen = cfg["sdes"], cfg["sde"]
    if names and chosen:
        raise InputError("sdes: given together with sde; give one of them")
    if chosen:
        label = str(HydraConfig.get().runtime.choices.get("sde") or "sde")
        return {label: sde_of(chosen, "sde", lambda: problem.sigma_max, defaults.allow)}
    if not names and isinstance(problem, Trained):
        return {type(problem.run.sde).__name__: None}
    return sdes(names or ["vp"], lambda: problem.sigma_max, defaults)


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


def _say(comparison: Comparison, out: Path) -> None:
    plan = comparison.plan
    rows = f"{len(comparison.entries)} rows of {plan.seeds} x {plan.n:,} samples"
    work = f"{comparison.work:,.0f} evaluations"
    print(f"problem  {plan.problem.name}\nrows     {rows}, {work}\nout      {out}", flush=True)


def _run(comparison: Comparison, out: Path, cfg: Mapping[str, Any], logger: Logger | None) -> None:
    """Measure all rows and report; Ctrl-C makes a report of the finished ones, and stops."""
    runs.write_config(out, cfg)
    try:
        measured(comparison, out, runs.without_secrets(cfg))
    finally:
        if comparison.results.rows:
            finish(out, comparison.results, cfg, logger)
