"""One comparison on the command line: its plan from the configuration, its folder, and what is printed and logged."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from scoresde import runs
from scoresde.build import build
from scoresde.cli.jobs import chosen, logged_as, out_folder, usual_place
from scoresde.cli.settings import CompareSettings, listed
from scoresde.comparison import Comparison, Plan, Problem, Reference, Trained, posteriors
from scoresde.comparison.collect import collected
from scoresde.comparison.entries import Defaults, candidates, sde_of, sdes
from scoresde.comparison.output import measured, report
from scoresde.errors import InputError, refuse, require
from scoresde.loggers import Logger, NoLogger
from scoresde.parallel.shared import sharers
from scoresde.results import Metric, Results
from scoresde.results.table import explained
from scoresde.runs.folder import RESULTS
from scoresde.runs.report import TABLE
from scoresde.sampling import Corrector, Grid
from scoresde.sde import SDE

_GIVE = "give run=FOLDER of a trained run, problem=mixture_2d (or another exact one), or folder=FOLDER of results"


def compare(settings: CompareSettings, cfg: dict[str, Any]) -> float | None:
    """Compare as configured; returns `Results.objective`, for sweepers.

    Raises:
        InputError: something in the configuration cannot be had; a folder is made only after all is checked.
    """
    given = [k for k in ("run", "problem", "folder") if cfg[k]]
    if len(given) != 1:
        wrong = f"{' and '.join(given)}: only one is possible" if given else "run: not given"
        raise InputError(f"{wrong}; {_GIVE}")
    allow = settings.packages
    logger: Logger = build(cfg["logger"], "logger", allow, Logger | None) or NoLogger()
    metrics = build(cfg["metrics"], "metrics", allow, Mapping[str, Metric] | None) or {}
    place = usual_place(f"compare-{runs.timestamp()}")
    if settings.folder is not None:
        found = collected(Path(settings.folder), metrics, allow, runs.pick_device(settings.device))
        _finish(out_folder(settings.out, *place), found, cfg, logger)
        return found.objective()
    comparison = Comparison(_plan(cfg, settings, metrics))
    out, plan, results = out_folder(settings.out, *place), comparison.plan, comparison.results
    rows = f"{len(comparison.entries)} rows of {plan.seeds} x {plan.n:,} samples"
    print(f"problem  {results.title}\nrows     {rows}, {comparison.work:,.0f} evaluations\nout      {out}", flush=True)
    if sharers().first:
        runs.write_config(out, cfg)
    try:
        with settings.accelerated(plan.problem.run) if isinstance(plan.problem, Trained) else nullcontext():
            measured(comparison, out, runs.without_secrets(cfg))
    finally:  # Ctrl-C makes a report of the finished rows, and stops
        if results.rows:
            _finish(out, results, cfg, logger)
    refuse(not results.succeeded, f"solvers: none of them has a result, see {out / 'report.html'}")
    return results.objective()


def _plan(cfg: Mapping[str, Any], settings: CompareSettings, metrics: Any) -> Plan:
    """Everything that is compared, built and checked."""
    allow, run = settings.packages, None if settings.run is None else Path(settings.run)
    reference, sampler = build(cfg["reference"], "reference", allow, Reference), cfg["sampler"]
    grid = build(sampler.get("grid"), "sampler.grid", allow, Grid | None, run=run)
    corrector = build(sampler.get("corrector"), "sampler.corrector", allow, Corrector | None)
    folders = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.path]
    defaults = Defaults(listed(settings.tolerances), grid, corrector, allow, run, folders[::-1])
    asked = cfg["posteriors"]
    usual = bool(asked) and not any(o.startswith("solvers=") for o in HydraConfig.get().overrides.task)
    samplers, device = candidates("auto" if usual else cfg["solvers"], defaults), runs.pick_device(settings.device)
    if asked:
        samplers = posteriors(asked, samplers, math.gcd(settings.n, settings.batch_size), usual)
    problem = _problem(cfg, settings)
    return Plan(
        problem, samplers, _sdes(cfg, problem, defaults), listed(settings.budgets), settings.n, settings.seed,
        settings.seeds, metrics, reference, settings.batch_size, getattr(torch, settings.dtype), device,
    )  # fmt: skip


def _problem(cfg: Mapping[str, Any], settings: CompareSettings) -> Problem:
    if settings.run is not None:
        return Trained(settings.load(settings.run), settings.label, settings.guidance)
    require(settings.label is None, "label", settings.label, "it belongs to a run with classes; give null")
    for key, plain in (("precision", "float32"), ("compile", False)):
        require(cfg[key] == plain, key, cfg[key], f"it belongs to a run with its network; give {str(plain).lower()}")
    require(settings.guidance == 1, "guidance", settings.guidance, "it belongs to a run with classes; give 1")
    problem: Problem = build(cfg["problem"], "problem", settings.packages, Problem)
    return problem


def _sdes(cfg: Mapping[str, Any], problem: Problem, defaults: Defaults) -> dict[str, SDE | None]:
    """The SDEs of `sdes`, or that of `sde`, or those of the problem."""
    names, sde = cfg["sdes"], cfg["sde"]
    refuse(names and sde, "sdes: given together with sde; give one of them")
    if sde:
        return {chosen("sde", sde): sde_of(sde, "sde", lambda: problem.sigma_max, defaults.allow)}
    return sdes(names or problem.default_sdes, lambda: problem.sigma_max, defaults)


def _finish(out: Path, results: Results, cfg: Mapping[str, Any], logger: Logger) -> None:
    """Print the table and the verdict, write every file of the results, and log them, in the first process."""
    if not sharers().first:
        return
    config = runs.without_secrets(cfg)
    found = report(out, results, config)
    verdict = "\n".join(found.verdict)
    print(f"\n{explained(results)}\n\n{verdict}\n\nreport   {found.path}")
    print(f"tables   {out / TABLE}, {out / RESULTS}", flush=True)
    logger.start(out, config, *logged_as(out), command="compare")
    try:
        logger.table("comparison", results.header(), results.flat(), 0)
        for file in found.images:
            logger.picture(file.stem, file, 0)
    finally:
        logger.finish()
