"""The work of `scoresde train`: where the training begins, its folder, and what is printed."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from scoresde import parallel, runs
from scoresde.build import build
from scoresde.cli.jobs import chosen, logged_as, overrides, result_folder, typed_keys, usual_place
from scoresde.cli.launch import in_processes, require_devices
from scoresde.cli.resume import LOGGER, merge
from scoresde.cli.settings import TrainSettings
from scoresde.cli.sweep_job import current, sweeping
from scoresde.errors import InputError, refuse
from scoresde.files import read_json
from scoresde.model import NetworkModel
from scoresde.results import Results
from scoresde.results.table import explained
from scoresde.runs.config import leaves
from scoresde.training import FitResult, Trainer
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.shares import parts_of
from scoresde.training.stop import Interrupted
from scoresde.workflows import initial
from scoresde.workflows.job import Job, check_types, prepare

_ASIDE = {"run", "allow", LOGGER}  # parts of a stored configuration that change nothing about a finished run


@dataclass
class Start:
    """Where a training begins.

    Attributes:
        cfg: the configuration.
        run: the folder of a run that is resumed.
        checkpoint: that of such a run, if it has one.
        complete: nothing is left to do: all steps done, final samples drawn, and no setting changed.
    """

    cfg: dict[str, Any]
    run: Path | None = None
    checkpoint: Checkpoint | None = None
    complete: bool = False


def train(settings: TrainSettings, cfg: dict[str, Any]) -> float | None:
    """Train as configured, or resume the run in `cfg["run"]`; returns the number that a sweeper should minimise.

    Raises:
        InputError: something in the configuration is not possible; a new run folder is made only after all is checked.
    """
    if (own := current()) and (begun := own.begun) and settings.run is None:
        settings = dataclasses.replace(settings, run=str(begun), name=None)
    with ExitStack() as stack:
        start = _start(settings, cfg, stack)
        if start.run and start.complete:
            return _already_complete(start.run, start.cfg["trainer"]["steps"])
        group, trainer = parallel.world(), start.cfg["trainer"]
        if group.size == 1 and (count := trainer.get("devices", 1)) != 1:
            require_devices(count, start.cfg["device"], "trainer.devices")
            parts_of(build(trainer, "trainer", settings.packages, Trainer), parallel.World(size=count))
            with _given_up(start.run or _new_run(settings, start.cfg, stack), stack) as run:
                hint = f"resume with: scoresde train {runs.setting(run)}"
                return in_processes("train", count, {**cfg, "run": str(run), "name": None}, hint=hint)
        job = prepare(start.cfg, settings.packages, start.checkpoint, start.run)
        run = Path(group.share(str(start.run or _new_run(settings, start.cfg, stack)) if group.first else None))
        group.hint = f"resume with: scoresde train {runs.setting(run)}"
        _opening(run, job, start.checkpoint)
        name, sweep = logged_as(run)
        with _how_to_resume(run):
            result, results = job.run(run, checkpoint=start.checkpoint, name=name, group=sweep)
        if group.first:
            _closing(run, result, results)
        best = results.objective()
        value: float | None = best if best is not None or result.best is None else result.best.value
        return value


def _start(settings: TrainSettings, cfg: dict[str, Any], stack: ExitStack) -> Start:
    """Look into the run folder, if one was named; from here on it is locked if it holds a run."""
    if settings.run is None or not runs.holds_run(run := Path(settings.run)):
        return Start(initial.taken_over(cfg, overrides()))
    stack.enter_context(runs.locked(run))
    stored = runs.read_config(run)
    for key in sorted(cfg.keys() - {"run"}):
        runs.section(stored, key, run)
    merged = merge(stored, cfg, overrides())
    merged |= {"run": cfg["run"], "allow": cfg["allow"]}  # what a folder allows itself does not count
    check_types(merged, packages := TrainSettings.of({**merged, "name": None}).packages)
    runs.stored_data(merged, run, [*packages, *["datasets"][: "data" in _typed()]])
    trainer: Trainer = build(merged["trainer"], "trainer", packages, Trainer)
    checkpoint = checkpoints.read(checkpoints.newest(run)) if checkpoints.saved_steps(run) else None
    done = checkpoint.step if checkpoint else 0
    steps = merged["trainer"]["steps"] = trainer.steps  # which may have been deleted
    refuse(steps < done, f"trainer.steps: {steps} is fewer than the {done} that {run} has done; give more")
    compared = stored.keys() - _ASIDE | {LOGGER} & _typed()
    same = all(merged.get(key) == stored[key] for key in compared)
    complete = steps == done and same and (run / runs.SUMMARY).is_file()
    if not complete:
        _mention_logger(stored[LOGGER], merged[LOGGER])
    return Start(merged, run, checkpoint, complete)


def _typed() -> set[str]:
    """The parts of the configuration in which something was typed."""
    return {key.partition(".")[0] for key in typed_keys()}


def _mention_logger(stored: Any, used: Any) -> None:
    """Say on stderr what the folder says about loggers, which is not followed."""
    before, now = (dict(leaves(part, LOGGER)) for part in (stored, used))
    other = " ".join(f"{key}={value}" for key, value in before.items() if now.get(key) != value)
    if other and LOGGER not in _typed():
        print(f"logger: {other} of the folder is not used; give it again to log as before", file=sys.stderr)


def _new_run(settings: TrainSettings, cfg: dict[str, Any], stack: ExitStack) -> Path:
    """Make the folder of a new run, and lock it."""
    preset = HydraConfig.get().runtime.choices.get("experiment")
    name = settings.name or preset or f"{chosen('data', cfg['data'])}-{chosen('sde', cfg['sde'])}"
    run = result_folder("run", settings.run, *usual_place(f"{runs.timestamp()}-{name}", settings.name))
    stack.enter_context(runs.locked(run))
    return run


@contextmanager
def _given_up(run: Path, stack: ExitStack) -> Iterator[Path]:
    """A context in which other processes hold the folder of a run; it is removed if they leave it empty."""
    stack.close()
    try:
        yield run
    finally:
        if not runs.holds_run(run):
            shutil.rmtree(run)


@contextmanager
def _how_to_resume(run: Path) -> Iterator[None]:
    """Say how to resume, however the training ends early; turn an interruption into an exit code.

    SystemExit also ends a sweep, which would continue after an Exception.
    """
    try:
        yield
    except BaseException as error:
        saved = checkpoints.saved_steps(run) and not sweeping()  # of which `main` says how to go on with the whole
        hint = f"resume with: scoresde train {runs.setting(run)}" if saved else ""
        if isinstance(error, InputError) and hint and error.__cause__:  # the disk has failed; in one line
            raise InputError(f"{error}; then {hint}") from error
        if not isinstance(error, InputError):
            said = f"{error}\n" if isinstance(error, Interrupted) else ""
            print(f"{said}{hint}".rstrip(), file=sys.stderr)
        if isinstance(error, Interrupted):
            raise SystemExit(128 + error.signal) from None
        raise


def _opening(run: Path, job: Job, start: Checkpoint | None) -> None:
    """Print what is being trained; in one line for a job of a sweep."""
    if sweeping():
        print(f"run    {run}", flush=True)
        return
    model, dataset = job.model, job.dataset
    weights = sum(p.numel() for p in model.parameters())
    print(f"data   {len(dataset.items):,} items of shape {dataset.event_shape}, {len(dataset.heldout):,} held out")
    print(f"model  {type(model.net).__name__}, {weights:,} weights, {model.meaning}, on {model.device}")
    print(f"sde    {model.sde}")
    print(f"run    {run}" + (f", resuming at step {start.step}" if start is not None else ""), flush=True)


def _closing(run: Path, result: FitResult[NetworkModel], results: Results) -> None:
    """Print the table of the final samples and what to type next; for a job of a sweep the table alone."""
    if sweeping():
        print(f"{results}\n", flush=True)
        return
    print(f"\ntrained to step {result.step} in {result.seconds:.0f} s; {results.n:,} samples of each sampler:\n")
    print(f"{explained(results)}\n")
    where = f"{run / 'samples'}/*.png" if results.succeeded else "none, since no sampler succeeded"
    summary = read_json(run / runs.SUMMARY, "run")
    for name in summary.keys() & {"bound"}:
        values = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in summary[name].items())
        print(f"{name:<9} {values}, on held-out data")
    if "auto_enough" in summary:
        print(f"auto      {summary['auto_enough'] or 'more than 50'} evaluations are within 1 % of 100")
    print(f"pictures  {where}\nmetrics   {run / runs.SUMMARY}\n{_next(run)}", flush=True)


def _already_complete(run: Path, steps: int) -> float | None:
    """Print that there is nothing to do."""
    print(f"{run} is complete, with all of its {steps} steps")
    if not sweeping():
        print(f"further   scoresde train {runs.setting(run)} trainer.steps={2 * steps}\n{_next(run)}")
    summary = read_json(run / runs.SUMMARY, "run")
    if "results" in summary:
        return Results.of_content(summary["results"], run / runs.SUMMARY).objective()
    best = summary.get("best_ratio")  # as older versions called it
    return best if isinstance(best, float) else None


def _next(run: Path) -> str:
    return f"next      scoresde sample {runs.setting(run)} sampler.steps=20"
