"""The training loop: steps, and what happens between them."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoresde import progress
from scoresde._version import __version__
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError
from scoresde.loggers import Logger
from scoresde.loss import Loss
from scoresde.training import checkpoint as checkpoints
from scoresde.training import snapshots
from scoresde.training.batches import Batches
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.heldout import heldout_loss
from scoresde.training.job import Best, Callback, Direction, Evaluate, FitResult, Progress
from scoresde.training.module import device_of, network_of
from scoresde.training.precision import gradient_scaler, tf32_allowed
from scoresde.training.profile import Profile
from scoresde.training.resumable import Resumable
from scoresde.training.schedule import factor
from scoresde.training.settings import Settings
from scoresde.training.step import Step, not_timed
from scoresde.training.stop import Interrupted, StopSignals, TrainingDiverged


@dataclass
class Loop:
    """One call of `Trainer.fit`; the fields are its arguments."""

    settings: Settings
    model: nn.Module
    dataset: Dataset
    loss: Loss[Any]
    optimizer: torch.optim.Optimizer
    run: Path | None
    seed: int
    logger: Logger
    start: Checkpoint | None
    evaluate: Evaluate[Any] | None
    direction: Direction
    callbacks: Sequence[tuple[int, Callback[Any]]]
    extra: dict[str, Any]

    done: int = field(default=0, init=False)  # steps
    last_loss: float = field(default=math.nan, init=False)
    best: Best | None = field(default=None, init=False)
    path: Path | None = field(default=None, init=False)  # the newest checkpoint
    values: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.step = self._prepared()
        self._restore()

    def _prepared(self) -> Step:
        s, data, model, loss, device = self.settings, self.dataset, self.model, self.loss, device_of(self.model)
        self.conditions = s.conditions(model, data)
        self.acceleration = s.acceleration(device)
        self.acceleration.prepare(network_of(model))
        if s.compile and loss.differentiates:
            raise InputError(f"compile: True is not allowed, since {type(loss).__name__} differentiates; give false")
        if loss.teacher is not None:
            loss.teacher.to(device).eval().requires_grad_(False)
        scaler = gradient_scaler(self.acceleration.dtype, device)
        self.resumable = Resumable(model, s.averages(model), self.optimizer, loss, scaler)
        self.resumable.check()
        self.profile = Profile(self.run, device, self.acceleration.dtype) if s.profile and self.run else None
        self._mark = not_timed if self.profile is None else self.profile.mark
        self.data = {
            "transform": data.transform.to_dict(),
            "sigma_data": data.sigma_data,
            "sigma_max": data.sigma_max,
            "train": len(data.items),
            "heldout": len(data.heldout),
        }
        rate = functools.partial(factor, steps=s.steps, warmup=s.warmup, schedule=s.schedule)
        batches = Batches(data.items, self.seed, device, data.flip, self.conditions.train)
        step = Step(
            model, self.resumable.averages, self.optimizer, loss, batches, s.batch_size, self.seed, s.clip, rate,
            0, s.micro_batch, scaler, self._mark, self.conditions.augmentation,
        )  # fmt: skip
        self.resumable.history = step.history
        return step

    def __call__(self, signals: StopSignals) -> FitResult[Any]:
        """Train to the last step, or until a signal arrives."""
        begin = time.perf_counter()
        model, device = self.model, device_of(self.model)
        self._check_monitor()
        model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if self.profile is not None and self.done < self.settings.steps:
            self.profile.count(self.step, self.done)
        self._since = time.perf_counter()
        with self.acceleration.applied(network_of(model)), tf32_allowed(device), self._bar() as bar:
            while self.done < self.settings.steps:
                if self.profile is not None:
                    self.profile.before_step(self.step)
                self.step(self.done)
                self.done += 1
                self._between_steps(signals, bar)
        if self.path is None:  # no step was left, with a checkpoint of another run
            self._save()
        if self.profile is not None:
            self.profile.finish(self.step)
        seconds = time.perf_counter() - begin
        return FitResult(self.done, self.average, self.last_loss, seconds, self.best, self.path)

    @property
    def average(self) -> Any:
        """The averaged model to evaluate and to sample from."""
        return self.resumable.averages.first

    def _bar(self) -> Any:
        # It moves at logs only, since a loss to show costs a wait
        shown = {"unit": "step", "miniters": 1, "mininterval": 0, "dynamic_ncols": True}
        return progress.bar(self.settings.steps, "training", initial=self.done, **shown)

    def _due(self, every: int) -> bool:
        return every > 0 and self.done % every == 0

    def _between_steps(self, signals: StopSignals, bar: Any) -> None:
        s, last = self.settings, self.done == self.settings.steps
        evaluate, save = last or self._due(s.evaluate_every), last or self._due(s.checkpoint_every)
        snapshot = bool(s.ema_power) and self._due(s.snapshot_every)
        called = [callback for every, callback in self.callbacks if self._due(every)]
        if not any((evaluate, save, snapshot, called, self._due(s.log_every), signals.received)):
            return
        self._log(bar)
        self._mark("logging")
        if evaluate:
            save |= self._unless_broken(self._evaluate)
            self._mark("evaluation")
        if snapshot:  # before the checkpoint: what resumes from that finds it
            self._snapshot()
        if save or signals.received:
            self._save()
        if signals.received:
            raise Interrupted(signals.received, self.done, self.path)
        if save or snapshot:
            self._mark("checkpoint")
        for callback in called:
            self._unless_broken(functools.partial(callback, self._progress()))
        self._since = time.perf_counter()

    def _snapshot(self) -> None:
        self._require_finite()
        if self.run is not None:
            snapshots.save(self.run, self.done, self.resumable.averages.power)

    def _unless_broken(self, call: Callable[[], Any]) -> Any:
        """The result of a call of the user's code; if it raises, the training is saved first."""
        try:
            return call()
        except Exception:
            self._save()
            raise

    def _progress(self) -> Progress[Any]:
        return Progress(self.done, self.settings.steps, self.model, self.average, dict(self.values), self.best)

    def _log(self, bar: Any) -> None:
        steps = len(self.step.window)
        scalars, bad = self.step.window.summary()  # waits for the device
        if bad is not None:
            raise TrainingDiverged(bad.what, self.done - steps + bad.row + 1, self.path)
        rate = steps / (time.perf_counter() - self._since)
        speed = {"steps_per_second": rate, "samples_per_second": rate * self.settings.batch_size}
        self._record({**scalars, "lr": self.step.lr, **self._loss_scale(), **speed})
        self.last_loss = scalars["loss"]
        bar.set_postfix(loss=f"{self.last_loss:.4g}", refresh=False)
        bar.update(steps)

    def _record(self, values: dict[str, float]) -> None:
        self.logger.log(values, self.done)
        self.values |= values

    def _loss_scale(self) -> dict[str, float]:
        """The factor that keeps gradients of float16 from vanishing, if there is one."""
        if not self.step.scaler.is_enabled():
            return {}
        scale = self.step.scaler.get_scale()
        if scale < 1:  # it is halved whenever a gradient overflows
            raise TrainingDiverged(f"no gradient is finite, even at a loss scale of {scale:g}", self.done, self.path)
        return {"loss_scale": scale}

    def _evaluate(self) -> bool:
        """Log the values on held-out data; whether the monitored one is the best so far."""
        model, metric, size = self.average, self.settings.monitor, self.settings.batch_size
        heldout = self.dataset.heldout
        values = {"heldout_loss": heldout_loss(self.loss, model, heldout, size, self.conditions.heldout)}
        if self.evaluate is not None:
            values |= self.evaluate(model, self.done)
        self._record(values)
        self._require_monitor(values)
        sign = -1 if self.direction == "higher" else 1
        if not math.isfinite(values[metric]) or (self.best and sign * values[metric] >= sign * self.best.value):
            return False
        self.best = Best(self.done, metric, values[metric])
        return True

    def _check_monitor(self) -> None:
        """Find a misspelt metric before the training, not hours into it."""
        if self.settings.monitor != "heldout_loss" and self.start is None:
            values = {} if self.evaluate is None else self.evaluate(self.average, 0)
            self._require_monitor(values)
            self._record(values)

    def _require_monitor(self, values: dict[str, float]) -> None:
        metric = self.settings.monitor
        if metric not in values:
            names = ", ".join(dict.fromkeys(["heldout_loss", *values]))
            raise InputError(f"monitor: {metric!r} is not a metric of this training; give one of {names}")

    def _save(self) -> None:
        self._require_finite()
        run, best = self.run, None if self.best is None else asdict(self.best)
        if run is None:
            return
        state = {
            "samples_seen": self.step.position,
            "seed": self.seed,
            "code_version": __version__,
            "run_id": self.logger.run_id,
            "best": best,
            "data": self.data,
            **self.extra,
        }
        self.path = checkpoints.save(run, self.resumable.checkpoint(self.done, state))
        checkpoints.record_best(run, best)
        checkpoints.prune(run, self.settings.keep_last, () if self.best is None else (self.best.step,))

    def _require_finite(self) -> None:
        wrong = self.resumable.not_finite()
        if wrong is not None:
            raise TrainingDiverged(f"{wrong} is not finite", self.done, self.path)

    def _restore(self) -> None:
        """Load the checkpoint to resume from. Nothing on disk is touched unless all of it fits."""
        run, start = self.run, self.start
        if start is None:
            if run is not None:  # snapshots of a training that was killed before its first checkpoint
                checkpoints.set_aside(run, 0)
            return
        path, state = Path(f"step {start.step}") if run is None else checkpoints.at_step(run, start.step), start.state
        self._check_resumed(start, path)
        self.resumable.load(start, path)
        self.done, self.step.position = start.step, int(state["samples_seen"])
        if run is not None and path.is_dir():  # else it is the checkpoint of another run, and so is its best one
            self.path = path
            if state["best"] is not None and state["best"]["metric"] == self.settings.monitor:
                self.best = Best(**state["best"])
            self.logger.rewind(start.step)
            checkpoints.set_aside(run, start.step)
            checkpoints.record_best(run, None if self.best is None else asdict(self.best))

    def _check_resumed(self, start: Checkpoint, path: Path) -> None:
        """Raise InputError for settings with which the training of a checkpoint cannot be resumed."""
        state, steps, seed = start.state, self.settings.steps, self.seed
        if start.step > steps:
            raise InputError(f"steps: {steps} is fewer than the {start.step} done in {path}; give more")
        if seed != state["seed"]:
            raise InputError(f"seed: {seed} is not the {state['seed']} of {path}; resume with that one")
        for part in ("train", "heldout"):
            if self.data[part] != state["data"][part]:
                raise InputError(
                    f"data: {self.data[part]} {part} items, but {path} was trained with {state['data'][part]}; "
                    "resume with the same data"
                )
