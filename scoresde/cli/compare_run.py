"""One comparison on the command line: its plan from the configuration, its folder, and what is printed and logged."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from scoresde import runs
from scoresde.build import TARGET, build
from scoresde.cli.jobs import chosen, logged_as, out_folder, typed_keys, usual_place
from scoresde.cli.settings import CompareSettings, listed
from scoresde.comparison import Comparison, Inferred, Plan, Problem, Reference, Trained
from scoresde.comparison.api import usual_metrics, with_methods
from scoresde.comparison.collect import collected
from scoresde.comparison.entries import Defaults, candidates, sde_of, sdes
from scoresde.comparison.output import measured, report
from scoresde.errors import InputError, refuse, require
from scoresde.loggers import Logger, NoLogger
from scoresde.parallel.shared import sharers
from scoresde.results import Metric, Results
from scoresde.results.table import explained
from scoresde.runs import Run
from scoresde.runs.folder import RESULTS
from scoresde.runs.observed import Observed
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
    guidance, device, observed = (
        _guidance(cfg, settings),
        runs.pick_device(settings.device),
        TARGET in cfg["observation"],
    )
    rows = "guidance: given an observation, methods of posterior sampling are rows; give one scale, by cfg"
    refuse(observed and guidance is not None, rows)
    asked = cfg["posteriors"] or (["mmps"] if observed else None)
    usual = (bool(asked) or guidance is not None) and "solvers" not in typed_keys()
    samplers = candidates("auto" if usual else cfg["solvers"], defaults)
    most = math.gcd(settings.n, settings.batch_size)
    samplers = with_methods(samplers, asked, guidance or (None, None), most, usual, allow)
    metrics = usual_metrics(True) if guidance and not _typed("metrics") else metrics
    problem = _problem(cfg, settings, guidance is None)
    metrics = {} if isinstance(problem, Inferred) else metrics
    return Plan(
        problem, samplers, _sdes(cfg, problem, defaults), listed(settings.budgets), settings.n, settings.seed,
        settings.seeds, metrics, reference, settings.batch_size, getattr(torch, settings.dtype), device,
    )  # fmt: skip


def _typed(key: str) -> bool:
    """Whether a key or one below it was typed."""
    return any(typed.split(".")[0] == key for typed in typed_keys())


def _guidance(cfg: Mapping[str, Any], settings: CompareSettings) -> tuple[Any, ...] | None:
    """Scales, methods, interval, guide and classifier, if they are more than one scale of a run."""
    plain = settings.run is not None or settings.guidance == 1
    if plain and not isinstance(settings.guidance, list) and cfg["guidance_methods"] is None and not settings.leads:
        return None
    interval = None if settings.guidance_interval is None else tuple(settings.guidance_interval)
    others = (settings.others.get(key) for key in ("guide", "classifier"))
    return settings.guidance, cfg["guidance_methods"], interval, *others


def _problem(cfg: Mapping[str, Any], settings: CompareSettings, alone: bool) -> Problem:
    """What is sampled; guided by the scale of the settings if that is `alone`."""
    if settings.run is not None:
        return _of_run(settings.load(settings.run), cfg, settings, alone)
    require(settings.label is None, "label", settings.label, "it belongs to a run with classes; give null")
    for key, plain in (("precision", "float32"), ("compile", False)):
        require(cfg[key] == plain, key, cfg[key], f"it belongs to a run with its network; give {str(plain).lower()}")
    given = any(value is not None for value in cfg["observation"].values())
    refuse(given, "observation: it is of items of a run; give run=FOLDER, or problem=inverse_mixture without it")
    problem: Problem = build(cfg["problem"], "problem", settings.packages, Problem)
    return problem


def _of_run(run: Run, cfg: Mapping[str, Any], settings: CompareSettings, alone: bool) -> Problem:
    """A run, or items of it that are observed."""
    scale = settings.guidance if alone and not isinstance(settings.guidance, list) else 1.0
    observed = Observed.of(run, cfg["observation"], settings.packages)
    if observed is None:
        return Trained(run, settings.label, scale, settings.classifier is not None)
    typed = "metrics: no samples of the posterior are known to compare with; leave it out, PSNR and others are measured"
    refuse(_typed("metrics"), typed)
    return Inferred(observed, range(settings.seed, settings.seed + settings.seeds), settings.label, scale)


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
