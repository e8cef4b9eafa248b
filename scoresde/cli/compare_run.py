"""One comparison on the command line: its plan from the configuration, its folder, and what is printed and logged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from scoresde import runs
from scoresde.build import build, check
from scoresde.cli.jobs import job_folder, result_folder, sweeping
from scoresde.cli.settings import CompareSettings
from scoresde.comparison import Comparison, Plan, Problem, Reference, Trained
from scoresde.comparison.entries import Defaults, candidates, sde_of, sdes
from scoresde.comparison.output import RESULTS, TABLE, measured, report
from scoresde.errors import InputError, refuse, require
from scoresde.loggers import Logger
from scoresde.results import Results
from scoresde.results.table import explained
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
        wrong = f"{' and '.join(given)}: only one is possible" if given else "run: not given"
        raise InputError(f"{wrong}; {_GIVE}")
    allow = settings.packages
    logger: Logger | None = build(cfg["logger"], "logger", allow, Logger) if cfg["logger"] else None
    check(cfg["metrics"], "metrics", allow)
    if settings.folder is not None:
        from scoresde.comparison.collect import collected

        found = collected(Path(settings.folder), build(cfg["metrics"], "metrics", allow) or {}, allow)
        _finish(_folder(settings), found, cfg, logger)
        return found.best()
    comparison = Comparison(_plan(cfg, settings))
    out, plan, results = _folder(settings), comparison.plan, comparison.results
    rows = f"{len(comparison.entries)} rows of {plan.seeds} x {plan.n:,} samples"
    print(f"problem  {results.title}\nrows     {rows}, {comparison.work:,.0f} evaluations\nout      {out}", flush=True)
    runs.write_config(out, cfg)
    try:
        measured(comparison, out, runs.without_secrets(cfg))
    finally:  # Ctrl-C makes a report of the finished rows, and stops
        if results.rows:
            _finish(out, results, cfg, logger)
    refuse(not results.succeeded, f"solvers: none of them has a result, see {out / 'report.html'}")
    return results.best()


def _plan(cfg: Mapping[str, Any], settings: CompareSettings) -> Plan:
    """Everything that is compared, built and checked."""
    allow, run = settings.packages, None if settings.run is None else Path(settings.run)
    reference = build(cfg["reference"], "reference", allow, Reference)
    grid, corrector = (
        build(cfg["sampler"][key], key, allow, kind, run=run) if cfg["sampler"].get(key) else None
        for key, kind in (("grid", Grid), ("corrector", Corrector))
    )
    folders = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.path]
    defaults = Defaults(settings.all_tolerances, grid, corrector, allow, run, folders[::-1])
    samplers, device = candidates(cfg["solvers"], defaults), runs.pick_device(settings.device)
    problem = _problem(cfg, settings)
    return Plan(
        problem, samplers, _sdes(cfg, problem, defaults), settings.all_budgets, settings.n, settings.seed,
        settings.seeds, build(cfg["metrics"], "metrics", allow) or {}, reference, settings.batch_size,
        getattr(torch, settings.dtype), device,
    )  # fmt: skip


def _problem(cfg: Mapping[str, Any], settings: CompareSettings) -> Problem:
    if settings.run is None:
        require(settings.label is None, "label", settings.label, "it belongs to a run with classes; give null")
        require(settings.guidance == 1, "guidance", settings.guidance, "it belongs to a run with classes; give 1")
        problem: Problem = build(cfg["problem"], "problem", settings.packages, Problem)
        return problem
    run = settings.load(settings.run)
    return Trained(run, settings.label, settings.guidance)


def _sdes(cfg: Mapping[str, Any], problem: Problem, defaults: Defaults) -> dict[str, SDE | None]:
    """The SDEs of `sdes`, or that of `sde`, or that of the run, or VP."""
    names, chosen = cfg["sdes"], cfg["sde"]
    refuse(names and chosen, "sdes: given together with sde; give one of them")
    if chosen:
        label = str(HydraConfig.get().runtime.choices.get("sde") or "sde")
        return {label: sde_of(chosen, "sde", lambda: problem.sigma_max, defaults.allow)}
    if not names and isinstance(problem, Trained):
        return {type(problem.run.sde).__name__: None}
    return sdes(names or ["vp"], lambda: problem.sigma_max, defaults)


def _folder(settings: CompareSettings) -> Path:
    """A new folder in runs/ (in a sweep: in that of the sweep), or the given one."""
    if sweeping():
        return result_folder("out", None, lambda: job_folder(settings.out))
    return result_folder("out", settings.out, lambda: runs.new_folder(Path("runs"), f"compare-{runs.timestamp()}"))


def _finish(out: Path, results: Results, cfg: Mapping[str, Any], logger: Logger | None) -> None:
    """Print the table and the verdict, write every file of the results, and log them."""
    config = runs.without_secrets(cfg)
    found = report(out, results, config)
    verdict = "\n".join(found.verdict)
    print(f"\n{explained(results)}\n\n{verdict}\n\nreport   {found.path}")
    print(f"tables   {out / TABLE}, {out / RESULTS}", flush=True)
    if logger is None:
        return
    logger.start(out, config, out.name)
    try:
        logger.table("comparison", results.header(), results.flat(), 0)
        for file in found.images:
            logger.picture(file.stem, file, 0)
    finally:
        logger.finish()
