"""One training from beginning to end: everything that it needs, built and checked, then the training itself."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from scoresde import figures, runs
from scoresde.build import MEASURED, RUNTIME, TARGET, build, check, resolve
from scoresde.constraints import parameters
from scoresde.control.guidance import conditioned
from scoresde.data import Dataset
from scoresde.data.dataset import DataSource
from scoresde.described import describe, public_name
from scoresde.errors import InputError, refuse
from scoresde.evaluations import evaluating
from scoresde.files import writing
from scoresde.loggers import Logger
from scoresde.loss import Loss
from scoresde.model import Model, NetworkModel
from scoresde.parallel import world
from scoresde.plain import each, join
from scoresde.results import Metric, Results, Scorer
from scoresde.runs.samples import batches
from scoresde.runs.sizes import training_fits
from scoresde.sampling import Sampler
from scoresde.sde import SDE
from scoresde.training import FitResult, Trainer
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.conditions import condition_sizes, conditions
from scoresde.training.job import Evaluate
from scoresde.training.settings import HELDOUT_LOSS, check_optimizer
from scoresde.workflows.final import final_samples, help_draw
from scoresde.workflows.initial import Initial
from scoresde.workflows.network import fresh_weights, tried
from scoresde.workflows.recorded import Recorded

_SHOWN = 100  # samples in a picture during training
_KINDS = {
    "sde": SDE, "data": DataSource, "model": NetworkModel, "loss": Loss, "optimizer": Optimizer, "trainer": Trainer,
    "metrics": Mapping[str, Metric] | Sequence[Metric], "samplers": Mapping[str, Sampler], "logger": Logger,
}  # fmt: skip


@dataclass(kw_only=True)
class Job(Recorded[NetworkModel, Results]):
    """The training of a score model, ready to run; at its end samples are drawn and measured.

    Attributes:
        scorer: the metrics of the final samples.
        samplers: that draw these, by name.
        n: number of samples of each.
    """

    scorer: Scorer
    samplers: Mapping[str, Sampler]
    n: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cond = conditions(self.model, self.dataset, self.trainer.augment, self.loss.targets).samples
        self.evaluate = self._evaluation()
        self.direction = self.scorer.direction(self.trainer.monitor)

    def finish(
        self, folder: Path, result: FitResult[NetworkModel], logger: Logger, first: bool
    ) -> tuple[Results, dict[str, Any]]:
        model, check = conditioned(result.ema, self.cond), self.trainer.auto_check
        if not first:
            help_draw(model, self.dataset.event_shape, self.samplers, self.n, self.seed)
            return Results(str(folder), self.n, 1), {}
        return final_samples(
            folder, result, model, self.scorer, self.samplers, self.n, self.seed, check, logger,
            self._found(result.ema),
        )  # fmt: skip

    def _found(self, model: NetworkModel) -> Mapping[str, Any]:
        """What the loss tells of the trained model on held-out items, see `Loss.summary`."""
        about = conditions(self.model, self.dataset, self.trainer.augment, self.loss.targets).heldout
        with evaluating(model):
            return self.loss.summary(model, self.dataset.heldout, about, self.seed)

    def picture(self, folder: Path, logger: Logger, model: NetworkModel, step: int) -> None:
        """Draw samples of a model that is being trained: <run>/samples/step-00000500.png."""
        sampler, path = self._quick, folder / "samples" / f"step-{step:08d}.png"
        drawn = sampler.sample(conditioned(model, self.cond), self.dataset.event_shape, n=_SHOWN, seed=self.seed)
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        figures.picture(drawn.x.cpu(), self.dataset.transform, path, title=f"step {step}")
        logger.picture("samples/training", path, step)

    @property
    def _quick(self) -> Sampler:
        """The fixed-grid sampler with the fewest steps.

        Raises:
            InputError: no sampler has a fixed grid.
        """
        fixed = [s for s in self.samplers.values() if not s.solver.adaptive]
        key = "monitor" if self.trainer.monitor != HELDOUT_LOSS else "picture_every"
        wanted = "needs a sampler on a fixed grid; add one to samplers"
        refuse(not fixed, f"trainer.{key}: {getattr(self.trainer, key)!r} {wanted}")
        return min(fixed, key=lambda s: s.steps)

    def _evaluation(self) -> Evaluate[NetworkModel] | None:
        """Metrics of samples during training, if one is monitored: of the fixed-grid sampler with the fewest steps.

        Raises:
            InputError: the monitored value is not measured, or no sampler has a fixed grid.
        """
        monitor, dataset = self.trainer.monitor, self.dataset
        if self.trainer.picture_every or monitor != HELDOUT_LOSS:
            _ = self._quick  # finds now that there is none
        if monitor == HELDOUT_LOSS:
            return None
        known = self.scorer.scalars(dataset.heldout)
        wanted = f"is not measured in this training; give one of {', '.join(['heldout_loss', *known])}"
        refuse(monitor not in known, f"trainer.monitor: {monitor!r} {wanted}")
        sampler, n = self._quick, min(self.n, len(dataset.heldout))

        def evaluate(model: Model, step: int) -> dict[str, float]:
            parts = batches(sampler, conditioned(model, self.cond), dataset.event_shape, n, self.seed)
            x = torch.cat([part.x for part in parts])
            return self.scorer.scalars(x) if world().first else {}

        return evaluate


def prepare(
    cfg: Mapping[str, Any],
    allow: Sequence[str] = (),
    checkpoint: Checkpoint | None = None,
    folder: Path | None = None,
    optimizer: Callable[[list[nn.Parameter]], Optimizer] | None = None,
) -> Job:
    """Build a training from its configuration: the parts, the data, then what depends on the data.

    Args:
        cfg: as composed for `scoresde train`; objects may stand in place of their descriptions.
        allow: packages whose classes it may name.
        checkpoint: where the training resumes, if it does.
        folder: of the run that is resumed.
        optimizer: in place of `optimizer` of the configuration: a function of the parameters.

    Raises:
        InputError: one line that begins with the dotted path of what cannot be used.
    """
    device = runs.pick_device(cfg["device"])
    cfg = {**cfg, "samplers": _chosen(cfg["samplers"])}
    check_types(cfg, allow)

    def part(key: str, **runtime: Any) -> Any:
        return build(cfg[key], key, allow, _KINDS[key], **runtime)

    own = {key: part(key) for key in ("loss", "trainer", "metrics", "samplers", "logger")}
    origin = Initial.of(cfg, checkpoint, allow)
    dataset: Dataset = part("data", run=folder).load()
    dataset = dataset if origin is None else origin.in_its_units(dataset)
    cfg = resolved(cfg, dataset)
    training_fits(cfg, own["trainer"], dataset.event_shape, device, allow)
    scorer = Scorer(own.pop("metrics"), dataset, device).prepare(cfg["n"])
    with fresh_weights(cfg["seed"]):
        model = part("model", sde=part("sde"), event_shape=dataset.event_shape)
    model = tried(model, dataset, own)
    if origin is not None and origin.weights is not None:
        model.load_state_dict(origin.weights)
    parameters = list(model.to(device).parameters())
    made = optimizer(parameters) if optimizer else part("optimizer", params=parameters)
    stored = {k: _stored(v, k) for k, v in cfg.items() if k != "run"}
    about = {"config": stored, "dataset": dataset, "model": model, "seed": cfg["seed"]}
    return Job(**about, optimizer=made, scorer=scorer, n=cfg["n"], **own)


def _chosen(samplers: Any) -> Any:
    """The samplers without those that a preset leaves out by `_target_: null`."""
    out = isinstance(samplers, Mapping)
    return {k: v for k, v in samplers.items() if not _left_out(v)} if out else samplers


def _left_out(sampler: Any) -> bool:
    return isinstance(sampler, Mapping) and sampler.get(TARGET, "") is None


def _stored(value: Any, path: str) -> Any:
    """A part of the configuration as plain values; None, with a line on stderr, of what none can construct."""
    if isinstance(value, NetworkModel):  # of which all but the network can be described
        arguments = {key: getattr(value, key) for key in parameters(type(value)) if key != "sde"}
        value = {TARGET: public_name(type(value)), **arguments}
    if isinstance(value, Mapping):
        return each(value, lambda item, key: _stored(item, join(path, key)))
    if isinstance(value, float | list):
        return value
    try:
        return describe(value, path)
    except InputError as error:
        print(f"config.yaml leaves out {error}", file=sys.stderr)
        return None


def check_types(cfg: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Find wrong names, keys and types in all groups before data is read, and wrong ranges of the SDE if possible."""
    source, sde = cfg["data"], cfg["sde"]
    kind = resolve(str(source.get(TARGET)), "data", allow) if isinstance(source, Mapping) else type(source)
    refuse(not hasattr(kind, "load"), f"data: {kind.__name__} has no method load, as a source of data must have")
    samplers = cfg.get("samplers", {})
    refuse(not isinstance(samplers, Mapping), f"samplers: {samplers!r} is not a mapping of names to samplers")
    for name in map(str, samplers):  # which are those of pictures
        refuse("/" in name or len(name.encode()) > 200, f"samplers: {name:.60} is no name of a file; give a short one")
    check_parts(cfg, allow, _KINDS)
    if not isinstance(sde, Mapping) or MEASURED not in sde.values():
        build(sde, "sde", allow)


def check_parts(cfg: Mapping[str, Any], allow: Sequence[str], kinds: Mapping[str, Any]) -> None:
    """Find wrong names, keys and types in those groups that are there, by the class that each must be."""
    for key in kinds.keys() & cfg.keys():
        check(cfg[key], key, allow, kinds[key], (*RUNTIME, MEASURED))
    check_optimizer(cfg.get("optimizer"))


def resolved(cfg: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The configuration with numbers for what it leaves to the data, so that the run can be used without them."""
    found: dict[str, Any] = runs.measured(cfg, dataset)
    net = found["model"].get("net") if isinstance(found["model"], Mapping) else None
    if isinstance(net, dict) and (condition := net.get("condition")):
        net["condition_size"] = condition_sizes(condition, net.get("condition_size"), dataset)
    return found
