"""Guidance by a classifier of noisy data."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from scoresde._shapes import Coefficient, expand
from scoresde.control.guidance import Values, for_batch, rows_of
from scoresde.control.guided import Guided, Interval
from scoresde.control.methods import GuidanceMethod
from scoresde.errors import require
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.prediction import Prediction


class NoisyClassifier(Protocol):
    """What classifies noisy data."""

    def log_classes(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """log p(c | x_t = x) of all classes (B, C) of x = alpha x_0 + sigma eps, differentiable in x."""


class ClassifierGuided(Guided):
    """A model led to classes by a classifier of noisy data: Bayes' rule for the score, with a scale.

        D_1 = D_0 + sigma^2 / alpha grad log p(c | x_t = x),   D = D_0 + scale (D_1 - D_0)

    The classifier is evaluated and differentiated once in each call, outside of the interval too, where the scale is 1.
    Its passes are no evaluations of the model and are not counted as such.

    Args:
        model: D_0, without classes.
        classifier: of noisy data.
        classes: one, or several that the samples take in turn.
        scale: 1 samples the classes; more follows them more closely.
        interval: see `Guided`.
        method: see `Guided`.

    Raises:
        InputError: no classes, or see `Guided`.

    P. Dhariwal and A. Nichol, arXiv 2105.05233, whose s is the scale.
    """

    def __init__(
        self,
        model: Model,
        classifier: NoisyClassifier,
        classes: Values,
        scale: float = 1.0,
        interval: Interval = None,
        method: GuidanceMethod | None = None,
    ) -> None:
        super().__init__(model, None, scale, interval, method)
        model.needs_gaussian("classifier")
        self.classifier, self.classes = classifier, rows_of(classes).to(model.device)
        require(bool((self.classes >= 0).all()), "label", self.classes.tolist(), "give classes counted from 0")

    def of_samples(self, rows: Tensor) -> Self:
        other = super().of_samples(rows)
        other.classes = self.classes[rows.to(self.classes.device) % len(self.classes)]
        return other

    def alone(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        return self.pair(x, t, cond)[0]

    def pair(self, x: Tensor, t: float | Tensor, cond: Cond) -> tuple[Prediction, Prediction]:
        weak, (alpha, sigma, _) = self.model(x, t, cond), self.levels(t)
        own, outer = for_batch("classes", self.classes, x), torch.is_grad_enabled()
        with torch.enable_grad():
            at = x if outer and x.requires_grad else x.detach().requires_grad_()
            chosen = self.classifier.log_classes(at, alpha, sigma).gather(1, own[:, None]).sum()
            slope = torch.autograd.grad(chosen, at, create_graph=outer)[0]
        return weak.moved(slope * expand(sigma**2 / alpha, x)), weak
