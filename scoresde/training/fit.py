"""One training: steps, and what happens between them. `Trainer` holds the settings and calls this."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoresde.data.dataset import Dataset
from scoresde.errors import InputError
from scoresde.loggers import Logger
from scoresde.model import Model, ScoreModel
from scoresde.training import checkpoint as checkpoints
from scoresde.training import snapshots
from scoresde.training.averages import is_average
from scoresde.training.batches import Batches
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.heldout import heldout_loss
from scoresde.training.precision import gradient_scaler, tf32_allowed
from scoresde.training.profile import Profile
from scoresde.training.schedule import factor
from scoresde.training.state import first_not_finite, load_module, load_optimizer, module_state, optimizer_state
from scoresde.training.step import Loss, Step, not_timed
from scoresde.training.stop import Interrupted, StopSignals, TrainingDiverged

if TYPE_CHECKING:
    from scoresde.training.trainer import Trainer

Evaluate = Callable[[Model, int], dict[str, float]]


@dataclass(frozen=True)
class Best:
    """The lowest value of the monitored figure so far, and the step of the checkpoint that reached it."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class FitResult:
    """What a training returns.

    Attributes:
        step: steps done, earlier ones included.
        ema: the model with averaged weights, in evaluation mode: the one to sample from.
        loss: mean training loss since the last log but one; NaN if no step was taken.
        seconds: wall-clock time of this call.
        best: see `Best`; None before the first evaluation.
        path: the newest checkpoint.
    """

    step: int
    ema: ScoreModel
    loss: float
    seconds: float
    best: Best | None
    path: Path


@dataclass
class Fit:
    """One call of `Trainer.fit`; the first eleven fields are its arguments."""

    settings: Trainer
    model: ScoreModel
    dataset: Dataset
    loss: Loss
    optimizer: torch.optim.Optimizer
    run: Path
    seed: int
    logger: Logger
    start: Checkpoint | None
    evaluate: Evaluate | None
    extra: dict[str, Any]

    done: int = field(default=0, init=False)  # steps
    best: Best | None = field(default=None, init=False)
    path: Path | None = field(default=None, init=False)  # the newest checkpoint
    last_loss: float = field(default=math.nan, init=False)

    def __post_init__(self) -> None:
        s = self.settings
        self.told = s.conditions(self.model, self.dataset)
        module_state(self.model), optimizer_state(self.optimizer, self.model)  # what cannot be saved is refused now
        self.acceleration = s.acceleration(self.model.device)
        self.acceleration.prepare(self.model.net)
        self.average = s.averages(self.model)
        self.scaler = gradient_scaler(self.acceleration.dtype, self.model.device)
        self.profile = Profile(self.run, self.model.device, self.acceleration.dtype) if s.profile else None
        self.data = {
            "transform": self.dataset.transform.to_dict(),
            "sigma_data": self.dataset.sigma_data,
            "sigma_max": self.dataset.sigma_max,
            "train": len(self.dataset.items),
            "heldout": len(self.dataset.heldout),
        }
        if self.start is None:
            checkpoints.set_aside(self.run, 0)  # snapshots of a training that was killed before its first checkpoint
        position = 0 if self.start is None else self._restore(self.start)
        rate = functools.partial(factor, steps=s.steps, warmup=s.warmup, schedule=s.schedule)
        batches = Batches(self.dataset.items, self.seed, self.model.device, self.dataset.flip, self.told.labels)
        self._mark = not_timed if self.profile is None else self.profile.mark
        self.step = Step(
            self.model, self.average, self.optimizer, self.loss, batches, s.batch_size, self.seed, s.clip, rate,
            position, s.micro_batch, self.scaler, self._mark, self.told.augmentation,
        )  # fmt: skip
        if self.step.history is not None and self.start is not None and "history" in self.start.modules:
            self.step.history.load(self.start.modules["history"])

    def __call__(self, signals: StopSignals) -> FitResult:
        """Train to the last step, or until a signal arrives."""
        begin = time.perf_counter()
        self._check_monitor()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        if self.profile is not None and self.done < self.settings.steps:
            self.profile.count(self.step, self.done)
        self._since = time.perf_counter()
        with self.acceleration.applied(self.model.net), tf32_allowed(self.model.device), self._bar() as bar:
            while self.done < self.settings.steps:
                if self.profile is not None:
                    self.profile.before_step(self.step)
                self.step(self.done)
                self.done += 1
                self._between_steps(signals, bar)
        if self.path is None:  # nothing was left to do, with a checkpoint of another run
            self._save()
        assert self.path is not None
        if self.profile is not None:
            self.profile.finish(self.step)
        seconds = time.perf_counter() - begin
        return FitResult(self.done, self.average.first, self.last_loss, seconds, self.best, self.path)

    def _bar(self) -> tqdm[Any]:
        # None: no bar where stderr is no terminal. It moves at logs only, since a loss to show costs a wait
        return tqdm(
            total=self.settings.steps, initial=self.done, disable=None, desc="training", unit="step", miniters=1,
            mininterval=0, dynamic_ncols=True,
        )  # fmt: skip

    def _between_steps(self, signals: StopSignals, bar: tqdm[Any]) -> None:
        s, last = self.settings, self.done == self.settings.steps
        evaluate = last or (s.evaluate_every > 0 and self.done % s.evaluate_every == 0)
        save = last or (s.checkpoint_every > 0 and self.done % s.checkpoint_every == 0)
        snapshot = s.snapshot_every > 0 and self.done % s.snapshot_every == 0 and bool(s.ema_power)
        if not (evaluate or save or snapshot or self.done % s.log_every == 0 or signals.received):
            return
        self._log(bar)
        self._mark("logging")
        if evaluate:
            try:
                save |= self._evaluate()
            except Exception:
                self._save()  # the training is sound: a fault in an evaluation must not cost its work
                raise
            self._mark("evaluation")
        if snapshot:  # before the checkpoint: what goes on from that finds it
            self._require_finite({})
            snapshots.save(self.run, self.done, self.average.power)
        stop = signals.received
        if save or stop:
            path = self._save()
            if stop:
                raise Interrupted(stop, self.done, path)
        if save or snapshot:
            self._mark("checkpoint")
        self._since = time.perf_counter()

    def _log(self, bar: tqdm[Any]) -> None:
        steps = len(self.step.window)
        scalars, bad = self.step.window.summary()  # waits for the device
        if bad is not None:
            sde = self.model.sde
            sigma = sde.at(float(sde.t_of_lam(torch.tensor(bad.lam)))).sigma
            where = f"{bad.what} at noise level lam={bad.lam:.3g} (sigma={sigma:.3g})"
            raise TrainingDiverged(where, self.done - steps + bad.row + 1, self.path)
        rate = steps / (time.perf_counter() - self._since)
        speed = {"steps_per_second": rate, "samples_per_second": rate * self.settings.batch_size}
        self.logger.log({**scalars, "lr": self.step.lr, **self._loss_scale(), **speed}, self.done)
        self.last_loss = scalars["loss"]
        bar.set_postfix(loss=f"{self.last_loss:.4g}", refresh=False)
        bar.update(steps)

    def _loss_scale(self) -> dict[str, float]:
        """The factor that keeps gradients of float16 from vanishing, if there is one."""
        if not self.scaler.is_enabled():
            return {}
        scale = self.scaler.get_scale()
        if scale < 1:  # it is halved whenever a gradient overflows
            raise TrainingDiverged(f"no gradient is finite, even at a loss scale of {scale:g}", self.done, self.path)
        return {"loss_scale": scale}

    def _evaluate(self) -> bool:
        """Log held-out figures; whether the monitored one is the best so far."""
        model, metric = self.average.first, self.settings.monitor
        items, size = self.dataset.heldout, self.settings.batch_size
        scalars = {"heldout_loss": heldout_loss(self.loss, model, items, size, self.told.heldout)}
        if self.evaluate is not None:
            scalars |= self.evaluate(model, self.done)
        self.logger.log(scalars, self.done)
        self._require_monitor(scalars)
        if not math.isfinite(scalars[metric]) or (self.best is not None and scalars[metric] >= self.best.value):
            return False
        self.best = Best(self.done, metric, scalars[metric])
        return True

    def _check_monitor(self) -> None:
        """Find a misspelt figure before the training, not hours into it."""
        if self.settings.monitor != "heldout_loss" and self.start is None:
            scalars = {} if self.evaluate is None else self.evaluate(self.average.first, 0)
            self._require_monitor(scalars)
            self.logger.log(scalars, 0)

    def _require_monitor(self, scalars: dict[str, float]) -> None:
        metric = self.settings.monitor
        if metric not in scalars:
            names = ", ".join(dict.fromkeys(["heldout_loss", *scalars]))
            raise InputError(f"monitor: {metric!r} is not a figure of this training; give one of {names}")

    def _save(self) -> Path:
        tensors, rest = optimizer_state(self.optimizer, self.model)
        self._require_finite(tensors)
        state = {
            "samples_seen": self.step.position,
            "seed": self.seed,
            "code_version": version("scoresde"),
            "run_id": self.logger.run_id,
            "ema_updates": self.average.updates,
            "scaler": self.scaler.state_dict(),
            "best": None if self.best is None else asdict(self.best),
            "optimizer": rest,
            "data": self.data,
            **self.extra,
        }
        averages = {name: module_state(average.module) for name, average in self.average.members.items()}
        modules = {"model": module_state(self.model), **averages}
        if self.step.history is not None:
            modules["history"] = self.step.history.state()
        self.path = checkpoints.save(self.run, Checkpoint(self.done, modules, tensors, state))
        checkpoints.record_best(self.run, None if self.best is None else asdict(self.best))
        checkpoints.prune(self.run, self.settings.keep_last, () if self.best is None else (self.best.step,))
        return self.path

    def _require_finite(self, tensors: dict[str, Tensor]) -> None:
        wrong = first_not_finite({**dict(self.model.named_parameters()), **tensors})
        if wrong is not None:
            raise TrainingDiverged(f"{wrong} is not finite", self.done, self.path)

    def _restore(self, start: Checkpoint) -> int:
        """Take over a checkpoint; returns the data position. Nothing on disk is touched unless all of it fits."""
        path, state = checkpoints.at_step(self.run, start.step), start.state
        if start.step > self.settings.steps:
            raise InputError(f"steps: {self.settings.steps} is fewer than the {start.step} done in {path}; give more")
        if self.seed != state["seed"]:
            raise InputError(f"seed: {self.seed} is not the {state['seed']} of {path}; resume with that one")
        for part in ("train", "heldout"):
            if self.data[part] != state["data"][part]:
                raise InputError(
                    f"data: {self.data[part]} {part} items, but {path} was trained with {state['data'][part]}; "
                    "resume with the same data"
                )
        members = self.average.members
        stored = sorted(filter(is_average, start.modules))
        if stored != sorted(members):
            raise InputError(
                f"ema: the averages asked for are {', '.join(members)}, but {path} holds {', '.join(stored)}; "
                "resume with the same"
            )
        load_module(self.model, start.modules["model"], path)
        for name, average in members.items():
            load_module(average.module, start.modules[name], path)
        load_optimizer(self.optimizer, self.model, start.optimizer, state["optimizer"], path)
        self.done, self.average.updates = start.step, state["ema_updates"]
        if self.scaler.is_enabled() and state.get("scaler"):  # else it was trained in another arithmetic
            self.scaler.load_state_dict(state["scaler"])
        if path.is_dir():  # else it is the checkpoint of another run, and so is its best one
            self.path = path
            if state["best"] is not None and state["best"]["metric"] == self.settings.monitor:
                self.best = Best(**state["best"])
            self.logger.rewind(start.step)
            checkpoints.set_aside(self.run, start.step)
            checkpoints.record_best(self.run, None if self.best is None else asdict(self.best))
        return int(state["samples_seen"])
