"""One evaluation on the command line: what is measured, its folder, and what is printed and logged."""

import re
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoresde import progress, runs
from scoresde.build import build
from scoresde.checks import Calibration
from scoresde.cli.jobs import logged_as, out_folder, typed_keys
from scoresde.cli.parts import continuation, continue_with
from scoresde.cli.settings import EvaluateSettings
from scoresde.control import ClassifierFree, GuidanceMethod
from scoresde.errors import InputError, refuse, require
from scoresde.kept import PARTS
from scoresde.loggers import Logger, NoLogger
from scoresde.model import Model
from scoresde.observation import Observation
from scoresde.parallel.shared import first_before_others, sharers
from scoresde.posterior import Method
from scoresde.results import Metric, ModelMetric, Results
from scoresde.results.sheet import NARROWEST, text
from scoresde.runs import Run
from scoresde.runs.folder import RESULTS
from scoresde.runs.report import EVALUATIONS, REPORT, TABLE
from scoresde.runs.saved import Saved
from scoresde.sampling import Sampler
from scoresde.workflows.evaluate import Evaluation


def evaluate(settings: EvaluateSettings, cfg: dict[str, Any]) -> float | None:
    """Evaluate as configured; returns `Results.objective`, for sweepers.

    Raises:
        InputError: something in the configuration cannot be had; a folder is made only after all is checked.
    """
    allow, saved = settings.packages, None if settings.samples is None else Saved.read(Path(settings.samples))
    folder: str | None = settings.run or (saved.summary.get("run") if saved else None)
    if folder is None:
        said = "" if saved is None else f", and {saved.path} does not name one"
        raise InputError(f"run: not given{said}; give run=FOLDER of a trained run, whose data are the real ones")
    logger: Logger = build(cfg["logger"], "logger", allow, Logger | None) or NoLogger()
    metrics = build(cfg["metrics"], "metrics", allow, Mapping[str, Metric | ModelMetric] | None) or {}
    sampler: Sampler = build(cfg["sampler"], "sampler", allow, Sampler, run=Path(folder))
    run, given = settings.load(folder), Path(settings.run) if settings.run else None
    settings = settings if saved is None else _of_saved(settings, saved)
    guided = _guided(settings, run, cfg["guidance_method"])
    refuse(guided is not None and saved is not None, "samples: they are drawn already; leave out what guides them")
    metrics = _asking(metrics, run, cfg, sampler, allow)
    what = Evaluation(
        run, metrics, saved, sampler, settings.n, settings.seed, settings.batch_size, settings.label, settings.guidance,
        guided,
    )  # fmt: skip
    with first_before_others():
        what.sampler = sampler.suited(what.model, run.event_shape) if what.draws else sampler
    out = out_folder(settings.out, run.path / EVALUATIONS, f"{what.row.name}-{settings.seed}")
    sharers().hint = continuation("evaluate", out, given)
    try:
        with settings.accelerated(run):
            results = what.results(out)
    except KeyboardInterrupt:
        if any(out.rglob(f"{PARTS}/**/*.npz")):
            continue_with("evaluate", out, given)
        raise
    finally:
        _remove_empty(out)
    _finish(what, out, results, cfg, logger)
    return results.objective()


def _of_saved(settings: EvaluateSettings, saved: Saved) -> EvaluateSettings:
    """The settings with the label of saved samples, unless one is typed."""
    if "n" in typed_keys():
        require(settings.n == len(saved.data), "n", settings.n, f"{saved.path} holds {len(saved.data)}; leave it out")
    return settings if "label" in typed_keys() else replace(settings, label=saved.label)


def _guided(settings: EvaluateSettings, run: Run, method: Any) -> Model | None:
    """What is measured, if keys of guidance say more than a label and a scale."""
    rule: GuidanceMethod = build(method, "guidance_method", settings.packages, GuidanceMethod)
    plain = type(rule) is ClassifierFree and not settings.leads
    return None if plain else settings.guided(run, rule, settings.guidance)


def _asking(
    metrics: Mapping[str, Metric | ModelMetric], run: Run, cfg: Mapping[str, Any], sampler: Sampler, allow: list[str]
) -> dict[str, Metric | ModelMetric]:
    """The metrics, those of posteriors with the observation, the method and the sampler of the command."""
    about: dict[str, Any] = {"event_shape": run.event_shape, "names": run.transform.names}
    seen = build(cfg["observation"], "observation", allow, Observation | None, **about)
    rule = build(cfg["posterior"], "posterior", allow, Method | None)
    if not any(re.match(r"(sampler\.)?solver\b", key) for key in typed_keys()):  # that of the method
        sampler = build({**cfg["sampler"], "solver": None}, "sampler", allow, Sampler, run=run.path)
    asking = {name: one.given(seen, rule, sampler) for name, one in metrics.items() if isinstance(one, Calibration)}
    for key in ("observation", "posterior"):
        idle = cfg[key] is not None and not asking
        refuse(idle, f"{key}: none of the metrics asks for it; give metrics=calibration, or leave it out")
    return {**metrics, **asking}


def _remove_empty(out: Path) -> None:
    """Remove the folder if nothing was written into it; the first process does."""
    if not sharers().first:
        return
    above = [out.parent] if out.parent.name == EVALUATIONS else []
    for path in sorted([*out.rglob("*"), out, *above], reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _finish(what: Evaluation, out: Path, results: Results, cfg: Mapping[str, Any], logger: Logger) -> None:
    """Print the table and the verdict, write every file of the results, and log them, in the first process."""
    if not sharers().first:
        return
    config = runs.without_secrets(cfg)
    images, said = what.report(out, results, config)
    columns = progress.columns(NARROWEST)
    lines = [textwrap.fill(line, columns) for line in said]
    print("\n".join([results.title, "", text(results), "", *lines, "", f"report   {out / REPORT}"]))
    print(f"tables   {out / TABLE}, {out / RESULTS}", flush=True)
    logger.start(out, config, *logged_as(out), command="evaluate")
    try:
        logger.table("evaluation", results.header(), results.flat(), 0)
        row = results.rows[0]
        logger.summary({key: values[0] for key, values in row.values.items()})
        for file in images:
            logger.picture(file.stem, file, 0)
    finally:
        logger.finish()
