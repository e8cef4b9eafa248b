"""One training from beginning to end: data, objects, run folder, training, final samples."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from scoresde import runs
from scoresde.build import TARGET, build, check, resolve
from scoresde.cli import initial, report
from scoresde.cli.commands.train import TrainSettings
from scoresde.cli.initial import Initial
from scoresde.cli.jobs import overrides, sweeping, varied
from scoresde.cli.resume import MEASURED, get, merge, put
from scoresde.control.guidance import conditioned
from scoresde.data import Dataset
from scoresde.errors import InputError
from scoresde.loggers import Logger, Loggers, MetricsFile
from scoresde.loss import Loss
from scoresde.model import Model, ScoreModel
from scoresde.noise import derived_seed
from scoresde.results import Scorer
from scoresde.sampling import Sampler
from scoresde.sde import SDE
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.conditions import condition_sizes
from scoresde.training.job import Evaluate
from scoresde.training.stop import Interrupted
from scoresde.training.trainer import Trainer

_EXPECTED = {"sde": SDE, "model": ScoreModel, "optimizer": torch.optim.Optimizer, "trainer": Trainer, "logger": Logger}
_EXPECTED |= {"loss": Loss}
_SIZE = "model.net.condition_size"
_OBJECTS = ("sde", "data", "model", "loss", "optimizer", "trainer", "metrics", "samplers", "logger")


@dataclass
class Start:
    """Where a training begins: its configuration, and for one that goes on its folder and checkpoint."""

    cfg: dict[str, Any]
    run: Path | None = None
    checkpoint: Checkpoint | None = None
    changed: bool = False


def train(cfg: dict[str, Any]) -> float | None:
    """Train as configured, or go on with the run in `cfg["run"]`; returns the figure that a sweeper should minimise.

    Raises:
        InputError: something in the configuration cannot be had; a new run folder is made only after all is checked.
    """
    settings: TrainSettings = TrainSettings.of(cfg)
    with ExitStack() as stack:
        start = _start(cfg, settings, stack)
        cfg, settings = start.cfg, TrainSettings.of(start.cfg)
        device, allow = runs.pick_device(settings.device), settings.packages
        _check_types(cfg, allow)
        parts = {k: build(cfg[k], k, allow) for k in ("data", "loss", "trainer", "metrics", "samplers", "logger")}
        if start.run is not None and _complete(start, parts["trainer"].steps):
            return report.already_complete(start.run, parts["trainer"].steps)
        origin = Initial.of(cfg, start.checkpoint, allow)
        dataset: Dataset = parts["data"].load()
        dataset = dataset if origin is None else origin.in_its_units(dataset)
        scorer = Scorer(parts["metrics"], dataset).prepare()
        cfg = _measured(cfg, dataset)
        model = _model(cfg, dataset, settings, device, origin)
        cond = parts["trainer"].conditions(model, dataset).samples
        evaluate = _evaluation(parts, scorer, settings, cond)
        params = list(model.parameters())
        optimizer = build(cfg["optimizer"], "optimizer", allow, torch.optim.Optimizer, params=params)
        run = start.run or _new_run(settings, stack)
        runs.write_config(run, {k: v for k, v in cfg.items() if k != "run"})
        report.opening(run, dataset, model, device, start.checkpoint, sweeping())
        resume, trainer, loss = start.checkpoint, parts["trainer"], parts["loss"]
        with _logging(parts["logger"], run, cfg, resume) as logger, _said_how_to_resume(run):
            result = trainer.fit(
                model, dataset, loss=loss, optimizer=optimizer, run=run, seed=settings.seed, logger=logger,
                checkpoint=resume, evaluate=evaluate, direction=scorer.direction(trainer.monitor),
            )  # fmt: skip
            task = report.Task(scorer, run, settings.n, settings.seed, parts["samplers"], cond)
            return report.closing(task, result, logger, sweeping())


def _start(cfg: dict[str, Any], settings: TrainSettings, stack: ExitStack) -> Start:
    """Look into the run folder, if one was named; from here on it is locked if it holds a run."""
    if settings.run is None:
        return Start(initial.taken_over(cfg, overrides()))
    run = Path(settings.run)
    if run.exists() and not run.is_dir():
        raise InputError(f"run: {run} is a file; give a folder")
    if not run.is_dir() or not any(p.name != ".lock" for p in run.iterdir()):
        return Start(initial.taken_over(cfg, overrides()))
    if not (run / runs.CONFIG).is_file():
        raise InputError(f"run: {run} is not empty and not the folder of a run; give a new folder, or that of a run")
    stack.enter_context(runs.locked(run))
    stored = runs.read_config(run)
    for key in cfg:
        if key != "run":
            runs.section(stored, key, run)
    merged = merge(stored, cfg, overrides())
    changed = merged != stored
    merged |= {"run": settings.run, "allow": cfg["allow"]}  # what a folder allows to itself does not count
    if not checkpoints.saved_steps(run):
        return Start(merged, run, None, changed)
    checkpoint = checkpoints.read(checkpoints.newest(run))
    steps = get(merged, "trainer.steps")
    if isinstance(steps, int) and steps < checkpoint.step:
        raise InputError(f"trainer.steps: {steps} is fewer than the {checkpoint.step} that {run} has done; give more")
    return Start(merged, run, checkpoint, changed)


def _complete(start: Start, steps: int) -> bool:
    """Whether there is nothing left to do: all steps done, final samples drawn, and nothing asked for that is new."""
    done = start.checkpoint is not None and start.checkpoint.step >= steps
    return done and not start.changed and start.run is not None and (start.run / runs.SUMMARY).is_file()


def _check_types(cfg: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Find wrong names, keys and types in all groups before data is read, and wrong ranges of the SDE if possible."""
    stand_in = copy.deepcopy(dict(cfg))
    for path, value in (("sde.sigma_max", 1.0), ("model.sigma_data", 1.0), (_SIZE, 1)):
        if get(cfg, path) == MEASURED:
            put(stand_in, path, value)
    for key in _OBJECTS:
        check(stand_in[key], key, allow, _EXPECTED.get(key))
    if not isinstance(cfg["samplers"], dict):
        raise InputError(f"samplers: {cfg['samplers']!r} is not a mapping of names to samplers")
    for name, sampler in cfg["samplers"].items():
        check(sampler, f"samplers.{name}", allow, Sampler)
    if not hasattr(resolve(cfg["data"].get(TARGET), "data", allow), "load"):
        raise InputError(f"data.{TARGET}: {cfg['data'][TARGET]} is not made for data, it has no load")
    if get(cfg, "sde.sigma_max") != MEASURED:
        build(cfg["sde"], "sde", allow)


def _measured(cfg: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The configuration with numbers where it said `measured`, so that a run can be used without its data."""
    cfg = copy.deepcopy(cfg)
    if get(cfg, "sde.sigma_max") == MEASURED:
        put(cfg, "sde.sigma_max", dataset.sigma_max)
    if get(cfg, "model.sigma_data") == MEASURED:
        put(cfg, "model.sigma_data", dataset.sigma_data)
    if condition := get(cfg, "model.net.condition"):
        put(cfg, _SIZE, condition_sizes(condition, get(cfg, _SIZE), dataset))
    return cfg


def _evaluation(
    parts: Mapping[str, Any], scorer: Scorer, settings: TrainSettings, cond: Mapping[str, Tensor]
) -> Evaluate[ScoreModel] | None:
    """Metrics of samples during training, if one is monitored: drawn by the fixed-grid sampler of fewest steps.

    Raises:
        InputError: the monitored value is none that the metrics give, or no sampler is on a fixed grid.
    """
    monitor, dataset = parts["trainer"].monitor, scorer.dataset
    if monitor == "heldout_loss":
        return None
    known = scorer.scalars(dataset.heldout)
    if monitor not in known:
        names = ", ".join(["heldout_loss", *known])
        raise InputError(f"trainer.monitor: {monitor!r} is not measured in this training; give one of {names}")
    samplers: list[Sampler] = [s for s in parts["samplers"].values() if not s.solver.adaptive]
    if not samplers:
        raise InputError(
            f"trainer.monitor: {monitor!r} needs a sampler on a fixed grid; give samplers one, or heldout_loss"
        )
    sampler, n = min(samplers, key=lambda s: s.steps), min(settings.n, len(dataset.heldout))

    def evaluate(model: Model, step: int) -> dict[str, float]:
        drawn = sampler.sample(conditioned(model, cond), dataset.event_shape, n, seed=settings.seed)
        return scorer.scalars(drawn.x.cpu())

    return evaluate


def _model(
    cfg: Mapping[str, Any], dataset: Dataset, settings: TrainSettings, device: str, origin: Initial | None
) -> ScoreModel:
    """The network after one trial evaluation: with fresh weights, the same for a seed on any device, or given ones."""
    shape = dataset.event_shape
    if str(get(cfg, "model.net._target_")).endswith(".UNet") and len(shape) != 3:
        raise InputError(
            f"model: a U-Net takes images (channels, height, width), but an item of this data is of shape {shape}; "
            "use model=mlp"
        )
    sde = build(cfg["sde"], "sde", settings.packages, SDE)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(derived_seed(settings.seed, "init", 0))
        model: ScoreModel = build(cfg["model"], "model", settings.packages, ScoreModel, sde=sde, event_shape=shape)
        x = dataset.items[:2]
        _check_call(model.net, x)
        model.eval()(x, sde.T)
    if origin is not None and origin.weights is not None:
        model.load_state_dict(origin.weights)
    return model.train().to(device)


def _check_call(net: torch.nn.Module, x: Tensor) -> None:
    """Raise unless the network can be called as net(x, c)."""
    try:
        inspect.signature(net.forward).bind(x, x)
    except TypeError as error:
        raise InputError(f"model.net: {type(net).__name__} cannot be called as net(x, c) ({error})") from None


def _new_run(settings: TrainSettings, stack: ExitStack) -> Path:
    """Make the folder of a new run, and lock it."""
    hydra = HydraConfig.get()
    try:
        if settings.run is not None:
            run = Path(settings.run)
            run.mkdir(parents=True, exist_ok=True)
        elif sweeping():
            run = runs.new_folder(Path(hydra.sweep.dir), "-".join([str(hydra.job.num), *varied()]))
        else:
            choices = hydra.runtime.choices
            name = choices.get("experiment") or f"{choices.get('data')}-{choices.get('sde')}"
            run = runs.new_folder(Path("runs"), f"{runs.timestamp()}-{name}")
    except OSError as error:
        raise InputError(f"run: no folder can be made here ({error}); give a place with run=") from None
    stack.enter_context(runs.locked(run))
    return run


@contextmanager
def _logging(logger: Logger | None, run: Path, cfg: Mapping[str, Any], start: Checkpoint | None) -> Iterator[Logger]:
    """All loggers, started; finished in the end whatever happens."""
    group = Path(HydraConfig.get().sweep.dir).name if sweeping() else None
    loggers = Loggers([MetricsFile(run / "metrics.jsonl"), *([] if logger is None else [logger])])
    run_id = None if start is None else start.state.get("run_id")
    loggers.start(run, runs.without_secrets(cfg), run.name, group, run_id)
    try:
        yield loggers
    except BaseException:
        loggers.finish(failed=True)
        raise
    loggers.finish(failed=False)


@contextmanager
def _said_how_to_resume(run: Path) -> Iterator[None]:
    """Turn an interruption into an exit code; SystemExit also ends a sweep, which would go on after an Exception."""
    hint = f"go on with: scoresde train {runs.setting(run)}"
    try:
        yield
    except Interrupted as stop:  # while training, and all is saved
        print(f"{stop}\n{hint}", file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    except KeyboardInterrupt:  # while the final samples were drawn
        print(hint, file=sys.stderr)
        raise
