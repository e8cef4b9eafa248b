"""A mixture with classes and the distributions that guidance claims to sample, drawn exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from scoresde.comparison.guided import SPREAD, Guidance, spread
from scoresde.comparison.problems import Mixture, Problem
from scoresde.conditional import ConditionalMixture, ExactConditional
from scoresde.constraints import Count, NonNegativeInt
from scoresde.control import ClassifierFree, Conditioned, Guided
from scoresde.data import Dataset
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.noise import derived_seed
from scoresde.results import Measurement, Quantity
from scoresde.sampling import Samples
from scoresde.sde import SDE

MODES = Quantity("modes_found", "modes", "share of the modes that have samples", direction="higher")
EXPECTED = 5.0  # samples in a mode, from which on it should be found


class MixtureClasses(Problem):
    """A random Gaussian mixture, see `Mixture`, whose components have classes in turn, with its exact scores.

    With guidance of scale w, samples are compared with exact draws from p(x) p(c | x)^w, normalised: each scale has
    real data and a floor of its own. Without guidance, and with w = 1, these are draws from p(x | c).

    Args:
        dimension: of one item.
        components: number of Gaussians.
        classes: how many; component k has class k mod classes.
        label: the class c that is sampled.
        seed: which mixture.

    Raises:
        InputError: fewer components than classes, or a label that is none of them.
    """

    quantities = (SPREAD, MODES)

    def __init__(
        self,
        dimension: Count = 2,
        components: Count = 6,
        classes: Count = 2,
        label: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
    ) -> None:
        require(components >= classes, "components", components, f"give {classes} or more, one for each class")
        require(label < classes, "label", label, f"give a class from 0 to {classes - 1}")
        mixture = Mixture(dimension, components, seed)
        self.dimension, self.components, self.classes, self.label, self.seed = (
            dimension,
            components,
            classes,
            label,
            seed,
        )
        self.data = ConditionalMixture(mixture.distribution, [k % classes for k in range(components)])
        self.transform, self.name = mixture.transform, f"class {label} of {classes} of a {mixture.name}"

    def model(self, sde: SDE | None, device: str) -> Model:
        if sde is None:
            raise InputError("sde: an exact problem needs one; give sde=vp")
        return Conditioned(ExactConditional(self.data, sde).to(device).eval(), [self.label])

    def asked(self, model: Model, method: Any, seed: int) -> Model:
        if not isinstance(method, Guidance):
            return super().asked(model, method, seed)
        for key, other in (("guide", method.guide), ("classifier", method.classifier)):
            require(other is None, key, str(other and other.path), "it leads a run; give null")
        if method.idle:
            return model
        plain = ExactConditional(self.data, model.sde).to(model.device).eval()
        if method.interval is None and (method.method is None or type(method.method) is ClassifierFree):
            return Conditioned(plain, [self.label], method.scale)
        return Guided(model, Conditioned(plain, [self.label], 0.0), method.scale, method.interval, method.method)

    def target(self, method: Any) -> Problem:
        return Tilted(self, method.scale) if isinstance(method, Guidance) else self

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        return Tilted(self, 1.0).real(n, seeds)

    def measured(self, drawn: Samples, seed: int, method: Any, real: Dataset) -> dict[str, Measurement]:
        own, x = self.data.of_class(self.label), drawn.x.double().cpu()
        expected, found = (torch.bincount(own.component(one), minlength=len(own.weights)) for one in (real.heldout, x))
        there = (found > 0)[expected >= EXPECTED]
        share = Measurement(float(there.double().mean()) if len(there) else 1.0)
        return {**spread(x, None, real), MODES.key: share}

    def notes(self, n: int, seeds: int) -> Iterator[str]:
        yield "Real data of guidance w are exact draws from p(x) p(c | x)^w, and each w has a floor of its own."


class Tilted(Problem):
    """Exact draws of what guidance by a scale claims to sample.

    Args:
        of: the mixture with classes.
        scale: w.
    """

    def __init__(self, of: MixtureClasses, scale: float) -> None:
        self.of, self.scale, self.transform, self.name = of, scale, of.transform, f"guidance {scale:g}"

    def model(self, sde: SDE | None, device: str) -> Model:
        return self.of.model(sde, device)

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        def draw(purpose: str, seed: int) -> Tensor:
            return self.of.data.tilted(self.of.label, self.scale, n, derived_seed(seed, purpose, 0)).float().cpu()

        return [Dataset(draw("floor", s), draw("real", s), self.transform) for s in seeds]
