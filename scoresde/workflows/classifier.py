"""The training of a classifier of noisy data along the SDE of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from scoresde import runs
from scoresde._shapes import expand
from scoresde.build import build
from scoresde.control import NetworkClassifier
from scoresde.data import Dataset
from scoresde.errors import refuse
from scoresde.loggers import Logger
from scoresde.loss import Loss
from scoresde.noise import Noise
from scoresde.runs import Run
from scoresde.runs.sizes import network_fits
from scoresde.training import FitResult, Trainer
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.settings import HELDOUT_LOSS
from scoresde.workflows.job import check_parts, resolved
from scoresde.workflows.network import fresh_weights
from scoresde.workflows.recorded import Recorded, of_training

KINDS = {"model": NetworkClassifier, "loss": Loss, "optimizer": Optimizer, "trainer": Trainer, "logger": Logger}
LEVELS = (0.1, 0.3, 1.0, 3.0, 10.0)  # sigma / alpha at which held-out items are classified, if the path has it
_MOST, _AT_ONCE = 2000, 500  # held-out items, evenly spaced

Scores = dict[float, tuple[float, float]]  # by sigma / alpha: accuracy, and cross-entropy in nats


@dataclass(kw_only=True)
class ClassifierJob(Recorded[NetworkClassifier, Scores]):
    """The training of a classifier, ready to run; at its end it is scored on held-out items at several levels."""

    command: str = "classifier"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.evaluate = lambda model, step: _named(self._scores(model))

    def _scores(self, model: NetworkClassifier) -> Scores:
        labels = self.dataset.heldout_labels
        assert labels is not None
        return scores(model, self.dataset.heldout, labels)

    def finish(
        self, folder: Path, result: FitResult[NetworkClassifier], logger: Logger, first: bool
    ) -> tuple[Scores, dict[str, Any]]:
        found = self._scores(result.ema)
        logger.summary(_named(found))
        return found, {**of_training(result), **_named(found), "seed": self.seed, "versions": runs.versions()}


def scores(classifier: NetworkClassifier, items: Tensor, labels: Tensor) -> Scores:
    """Accuracy and mean cross-entropy of held-out items, by noise level, with noise that never changes.

    Args:
        classifier: in evaluation mode.
        items: (N, *event) in model units; at most 2,000 of them, evenly spaced, are used.
        labels: their classes (N,).
    """
    index = torch.arange(min(len(items), _MOST)) * len(items) // min(len(items), _MOST)
    items, labels, sde, found = items[index], labels[index], classifier.sde, Scores()
    least, most = (math.exp(-sde.at(t).lam) for t in (sde.t_train, sde.t_start))
    for ratio in sorted({min(max(r, least), most) for r in LEVELS}):
        t = float(sde.t_of_lam(-torch.tensor(ratio, dtype=torch.float64).log()))
        alpha, sigma, _ = sde.at(min(max(t, sde.t_train), sde.t_start))
        right, entropy = 0.0, 0.0
        for first in range(0, len(items), _AT_ONCE):
            x0, own = (part[first : first + _AT_ONCE].to(classifier.device) for part in (items, labels))
            eps = Noise(0, range(first, first + len(x0))).normal("classes", 0, x0.shape, x0.device)
            with torch.no_grad():
                log_classes = classifier.log_classes(expand(alpha, x0) * x0 + expand(sigma, x0) * eps, alpha, sigma)
            right += float((log_classes.argmax(1) == own).sum())
            entropy -= float(log_classes.gather(1, own[:, None]).sum(dtype=torch.float64))
        found[ratio] = right / len(items), entropy / len(items)
    return found


def _named(found: Scores) -> dict[str, float]:
    """The scores under the names that are logged."""
    both = ("accuracy", "cross_entropy")
    return {f"{name}/noise_{r:.3g}": values[i] for i, name in enumerate(both) for r, values in found.items()}


def prepare(
    cfg: Mapping[str, Any], run: Run, allow: Sequence[str] = (), checkpoint: Checkpoint | None = None
) -> ClassifierJob:
    """Build the training of a classifier from its configuration.

    Args:
        cfg: as composed for `scoresde classifier`, with plain values.
        run: whose data, split, units and SDE are used.
        allow: packages whose classes the configuration may name.
        checkpoint: where the training resumes, if it does.

    Raises:
        InputError: one line that begins with the dotted path of what cannot be used.
    """
    device = runs.pick_device(cfg["device"])
    check_parts(cfg, allow, KINDS)
    loss, trainer, logger = (build(cfg[key], key, allow, KINDS[key]) for key in ("loss", "trainer", "logger"))
    _check(trainer, run, checkpoint)
    dataset = _labelled(run)
    cfg, shape = resolved(cfg, dataset), dataset.event_shape
    network_fits(cfg, trainer, shape, device, allow)
    with fresh_weights(cfg["seed"]):
        about = {"sde": run.sde, "event_shape": shape}
        model: NetworkClassifier = build(cfg["model"], "model", allow, NetworkClassifier, **about)
    classes, there = model.to(device).classes_of(shape), dataset.classes or 0
    refuse(classes < there, f"model.net.classes: {classes} is fewer than the {there} of the data; give measured")
    optimizer = build(cfg["optimizer"], "optimizer", allow, Optimizer, params=list(model.parameters()))
    stored = {key: value for key, value in cfg.items() if key not in ("run", "out")}
    stored |= {"sde": run.config["sde"], "data": run.config["data"], runs.CLASSIFIES: str(run.path)}
    return ClassifierJob(
        config=stored, dataset=dataset, model=model, loss=loss, optimizer=optimizer, trainer=trainer, seed=cfg["seed"],
        logger=logger,
    )  # fmt: skip


def _check(trainer: Trainer, run: Run, checkpoint: Checkpoint | None) -> None:
    """Refuse settings of score models, and a run that does not fit."""
    run.model.needs_gaussian("classifier")
    for key, plain in (("augment", 0.0), ("picture_every", 0), ("monitor", HELDOUT_LOSS)):
        value, wanted = getattr(trainer, key), f"is for score models, not for a classifier; give {plain}"
        refuse(value != plain, f"trainer.{key}: {value!r} {wanted}")
    other = checkpoint is not None and checkpoint.state["data"]["transform"] != run.transform.to_dict()
    refuse(other, f"run: {run.path} has other units than the classifier was trained in; give the run of its data")


def _labelled(run: Run) -> Dataset:
    """The data of a run, with classes counted from 0.

    Raises:
        InputError: they have none.
    """
    dataset = run.dataset()
    labels, heldout = dataset.labels, dataset.heldout_labels
    if labels is None or heldout is None:
        refuse(True, f"run: {run.path} was trained on data without labels; give a run whose data have classes")
    else:
        low = min(int(part.min()) for part in (labels, heldout))
        refuse(low < 0, f"run: {run.path} has data with the class {low}; classes are counted from 0")
        refuse((dataset.classes or 0) < 2, f"run: {run.path} has data of one class; give data with two or more")
    return dataset
