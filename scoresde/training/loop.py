"""The training loop: steps, and what happens between them."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoresde import progress
from scoresde._version import __version__
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, refuse
from scoresde.files import writing
from scoresde.loggers import Logger
from scoresde.loss import Loss
from scoresde.model import device_of
from scoresde.noise import Noise
from scoresde.parallel import Gone, World
from scoresde.training import checkpoint as checkpoints
from scoresde.training.acceleration import Acceleration, gradient_scaler, half_type
from scoresde.training.batches import Batches
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.conditions import conditions, network_of
from scoresde.training.ema import Averages
from scoresde.training.fsdp import cut_over
from scoresde.training.heldout import heldout_loss
from scoresde.training.job import Best, Callback, Direction, Evaluate, FitResult, Progress
from scoresde.training.profile import Profile
from scoresde.training.settings import HELDOUT_LOSS, Settings
from scoresde.training.shards import unite, whole
from scoresde.training.step import Step, Unprofiled
from scoresde.training.stop import Interrupted, TrainingDiverged

_JUMP = 2.5  # of the learning rate from one step to the next; a warm-up doubles it at most


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
    begin: Callable[[], object] | None = None
    picture: Callable[[Any, int], object] | None = None
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.done, self.last_loss, self._began = 0, math.nan, time.perf_counter()
        self.best: Best | None = None
        self.path: Path | None = None  # the newest checkpoint
        self.values: dict[str, float] = {}  # the latest ones
        s, data, model, loss, device = self.settings, self.dataset, self.model, self.loss, device_of(self.model)
        self.conditions = conditions(model, data, s.augment, loss.targets)
        dtype = half_type(s.precision, device)
        self.acceleration = Acceleration(dtype, s.compile, s.channels_last, s.checkpoint_activations)
        self.acceleration.prepare(network_of(model))
        broken = s.compile and loss.differentiates
        refuse(broken, f"compile: True is not allowed, since {type(loss).__name__} differentiates; give false")
        if loss.teacher is not None:
            loss.teacher.to(device).eval().requires_grad_(False)
        numbers = {"sigma_data": data.sigma_data, "sigma_max": data.sigma_max}
        self.data = {"transform": data.transform.to_dict(), **numbers}
        self.data |= {"train": len(data.items), "heldout": len(data.heldout)}
        profile = Profile(self.run, device, dtype) if s.profile and self.run is not None else Unprofiled()
        self.cut = cut_over(self.world, s, loss, model, self.optimizer)
        averages = Averages(model, s.decays, s.ema_power)
        self.average = averages.first
        spread = data.transform if s.dequantise else None
        self._heldout = data.heldout
        if spread is not None:
            u = Noise(0).uniform("dequantise", 0, data.heldout.shape)
            self._heldout = spread.dequantised(data.heldout, u)
        batches = Batches(data.items, self.seed, device, data.flip, self.conditions.train, spread, self.world)
        self.step = Step(
            model, averages, self.optimizer, loss, batches, s, self.seed, 0, gradient_scaler(dtype, device),
            profile, self.conditions.augmentation, self.world, shares=self.cut,
        )  # fmt: skip
        self._restore()

    def __call__(self, signals: Sequence[int]) -> FitResult[Any]:
        """Train to the last step, or until a signal arrives."""
        trained, steps, self.step.signals = self.step.trained, self.settings.steps, signals
        if self.settings.monitor != HELDOUT_LOSS and self.start is None:
            with whole(self.average):
                self._measure({})  # finds a misspelt metric now, not after hours
        self.model.train()
        trained.train()
        self.optimizer.zero_grad(set_to_none=True)
        if self.done < steps:
            self.step.profile.count(self.step, self.done)
        self._since = time.perf_counter()
        # the bar moves at logs only, since a loss to show costs a wait
        shown = {"unit": "step", "miniters": 1, "mininterval": 0, "dynamic_ncols": True}
        bar = progress.bar(steps, "training", not self.world.first, initial=self.done, **shown)
        with self.acceleration.applied(network_of(trained)), bar:
            while self.done < steps:
                self.step.profile.before_step(self.step)
                self.step(self.done)
                self.done += 1
                self._between_steps(self.step.stopping, bar)
        if self.world.share(self.path is None):  # no step was left, with a checkpoint of another run
            self._save()
        self.step.profile.finish(self.step)
        unite(self.average)
        if self.cut is not None:
            self.cut.finish()
        return FitResult(self.done, self.average, self.last_loss, self._seconds, self.best, self.path)

    @property
    def _seconds(self) -> float:
        """Since the training began, without what came between its sessions."""
        return time.perf_counter() - self._began

    def _between_steps(self, signals: Sequence[int], bar: Any) -> None:
        due = self.settings.due(self.done)
        called = [callback for every, callback in self.callbacks if every > 0 and self.done % every == 0]
        if not (due or called or signals):
            return
        with self._saved_if_broken():
            self._log(bar)
            shown = bool(called or due & {"evaluation", "picture"})
            with whole(*[self.average] * shown, *[self.model] * bool(called)):
                if "evaluation" in due:
                    due |= self._evaluate()
                if "picture" in due and self.picture is not None and self.world.first:
                    self.picture(self.average, self.done)
                for callback in called if self.world.first else ():
                    values = dict(self.values)
                    callback(Progress(self.done, self.settings.steps, self.model, self.average, values, self.best))
        self._keep(due, signals)  # last: what was killed before it is done again when the training resumes
        self._since = time.perf_counter()

    def _keep(self, due: set[str], signals: Sequence[int]) -> None:
        """Write what is due, and stop if that was asked for."""
        if "snapshot" in due:  # before the checkpoint: what resumes from that finds it
            self._require_finite()
            self._write(self.step.snapshot(self.done), f"snapshot-{self.done:08d}")
        if "checkpoint" in due or signals:
            self._save()
        if signals:
            raise Interrupted(signals[0], self.done, self.path)
        self.step.profile.mark("checkpoint")

    @contextmanager
    def _saved_if_broken(self) -> Iterator[None]:
        """The training is saved if the user's code fails, or the disk is full; not if another process is gone."""
        try:
            yield
        except (TrainingDiverged, Gone):
            raise
        except Exception:
            if self.cut is None:  # else the others, who do not come here, would have to write their part
                self._save()
            raise

    def _log(self, bar: Any) -> None:
        steps = len(self.step.window)
        scalars, bad = self.step.window.summary()  # waits for the device
        if bad is not None:
            raise TrainingDiverged(bad.what, self.done - steps + bad.row + 1, self.path)
        rate = steps / (time.perf_counter() - self._since)
        speed = {"steps_per_second": rate, "samples_per_second": rate * self.settings.batch_size}
        self._record({**scalars, "lr": self._rate, **self._loss_scale(), **speed})
        self.last_loss = scalars["loss"]
        bar.set_postfix(loss=f"{self.last_loss:.4g}", refresh=False)
        bar.update(steps)
        self.step.profile.mark("logging")

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

    def _evaluate(self) -> set[str]:
        """Log the values on held-out data; a checkpoint is due if the monitored one is the best so far."""
        size, data = self.settings.batch_size, self._heldout
        loss = heldout_loss(self.loss, self.average, data, size, self.conditions.heldout, self.world)
        value = self._measure({HELDOUT_LOSS: loss})
        self.step.profile.mark("evaluation")
        sign = -1 if self.direction == "higher" else 1
        if not math.isfinite(value) or (self.best and sign * value >= sign * self.best.value):
            return set()
        self.best = Best(self.done, self.settings.monitor, value)
        return {"checkpoint"}

    def _measure(self, values: dict[str, float]) -> float:
        """Log these values and those of the user's function; returns the monitored one."""
        metric = self.settings.monitor
        if self.evaluate is not None:
            values |= self.world.share(self.evaluate(self.average, self.done))
        if metric not in values:
            names = ", ".join(dict.fromkeys([HELDOUT_LOSS, *values]))
            raise InputError(f"monitor: {metric!r} is not a metric of this training; give one of {names}")
        self._record(values)
        return values[metric]

    def _save(self) -> None:
        self._require_finite()
        best = None if self.best is None else asdict(self.best)
        about = {"seed": self.seed, "code_version": __version__, "run_id": self.logger.run_id, "best": best}
        about |= {"loss": self.last_loss, "lr": self._rate}
        state = {**about, "data": self.data, **self.extra}
        measured: dict[str, Any] = {"seconds": self._seconds, "record": self.logger.record}
        self.path = self._write(replace(self.step.checkpoint(self.done, state), **measured))
        if self.run is not None:
            self._tidy(self.run)

    def _write(self, checkpoint: Checkpoint, name: str | None = None) -> Path | None:
        """Write a checkpoint, or what this process holds of it; the process that saves returns its folder."""
        if self.run is not None:
            return checkpoints.save(self.run, checkpoint, name)
        if self.cut is not None and self._saving:
            checkpoints.save_part(checkpoint)
        return None

    def _tidy(self, run: Path) -> None:
        """Bring the folder of checkpoints in line with the newest one."""
        checkpoints.record_best(run, self.best)
        checkpoints.prune(run, self.settings.keep_last, () if self.best is None else (self.best.step,))

    @property
    def _rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _require_finite(self) -> None:
        wrong = self.step.not_finite()
        if wrong is not None:
            raise TrainingDiverged(f"{wrong} is not finite", self.done, self.path)

    def _restore(self) -> None:
        """Load the checkpoint to resume from. Nothing on disk is touched unless all of it fits."""
        run, start = self.run, self.start
        path = checkpoints.at_step(run or Path(), 0 if start is None else start.step)
        if start is not None:
            checkpoints.require_resumable(start, path, self.settings.steps, self.seed, self.data)
            self.step.load(start, path)
            self._take_on(start)
        self.world.same("the step from which this training goes on", self.done)
        self.world.meet()  # all have read what is there before anything is changed
        if self.begin is not None:
            self.begin()
        elif run is not None:
            with writing(run, "run"):
                run.mkdir(parents=True, exist_ok=True)
        there = run is not None and path.is_dir()  # else it is the checkpoint of another run
        self._saving, here = self.world.share([run is not None, there])
        if start is None and run is not None:
            checkpoints.set_aside(run, 0)
        if start is not None and here:
            self._go_on(start, path)

    def _go_on(self, start: Checkpoint, path: Path) -> None:
        """Go on in the folder of the checkpoint."""
        best = start.state["best"]
        if best is not None and best["metric"] == self.settings.monitor:
            self.best = Best(best["step"], best["metric"], best["value"])
        if self.run is None:
            return
        checkpoints.set_aside(self.run, self.done)
        self.path = path
        self.logger.rewind(start.step)
        if None not in (start.record, now := self.logger.record) and now != start.record:
            print(f"{self.run}: what was logged up to step {start.step} was changed since then", file=sys.stderr)
        self._tidy(self.run)

    def _take_on(self, start: Checkpoint) -> None:
        """What earlier sessions have done; says so if the learning rate jumps."""
        state, settings, self.done = start.state, self.settings, start.step
        self._began -= start.seconds
        self.last_loss = math.nan if state.get("loss") is None else state["loss"]  # older versions did not store it
        before, now = state.get("lr"), self._rate * settings.rate(self.done)
        if before is not None and now > _JUMP * before and self.done not in (settings.steps, settings.restart):
            jump = f"the learning rate is {before:.2g} in step {self.done} and {now:.2g} in the next one"
            print(f"{jump}; trainer.restart={self.done} begins its schedule again, with a warm-up", file=sys.stderr)
