"""Inverse problems with exact posteriors, and the methods of posterior sampling that are compared on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from scoresde.analytic import ExactModel
from scoresde.build import build
from scoresde.comparison.budget import Candidate
from scoresde.comparison.classes import EXPECTED, MODES
from scoresde.comparison.problems import Exact, Finite, FromMixture, Mixture, Problem, Source, plain_transform
from scoresde.comparison.reference import Distribution
from scoresde.constraints import Count, NonNegativeInt, Positive
from scoresde.data import Dataset
from scoresde.errors import InputError, refuse, require
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.named import name_of, option
from scoresde.noise import Noise, derived_seed
from scoresde.observation import Inpaint, Observation, Projection
from scoresde.posterior import Method, Posterior, Twisted
from scoresde.results import Measurement, Quantity
from scoresde.sampling import Samples

EXACT = "exact"  # the row of the exact conditional denoiser
_TRUTH = "share of the values of the truth within the central {} of the samples"
PRODUCTS = Quantity("products", "products", "products with the Jacobian of the model per sample, counted")
COVERAGE = (
    Quantity("coverage_50", "50 %", _TRUTH.format("50 %"), note="0.5 if they are calibrated"),
    Quantity("coverage_90", "90 %", _TRUTH.format("90 %"), note="0.9 if they are calibrated"),
)


class Ring(FromMixture, Exact):
    """Equal Gaussians on a circle in the plane, symmetric about its axes.

    Args:
        modes: number of Gaussians.
        radius: of the circle.
        std: of each of them.
    """

    def __init__(self, modes: Count = 8, radius: Positive = 1.5, std: Positive = 0.15) -> None:
        angle = 2 * math.pi * (torch.arange(modes, dtype=torch.float64) + 0.5) / modes
        means = radius * torch.stack((angle.cos(), angle.sin()), dim=1)
        covariances = std**2 * torch.eye(2).expand(modes, 2, 2)
        self.distribution = GaussianMixture(torch.ones(modes), means, covariances)
        self.modes, self.radius, self.std = modes, radius, std
        self.name, self.transform = f"ring of {modes} Gaussians", plain_transform((2,))


class Inverse(Exact):
    """An item of a distribution seen through an observation: samples are compared with draws of the exact posterior.

    Each seed has an item, its truth, and a y of its own.

    Args:
        prior: a problem with a distribution.
        observation: of its items, in model units; a linear one.

    Raises:
        InputError: a prior without a distribution, an observation of another shape, or one that is not linear.
    """

    quantities = (PRODUCTS, MODES, *COVERAGE)

    def __init__(self, prior: Problem, observation: Observation) -> None:
        refuse(prior.distribution is None, f"problem.prior: {prior.name} has no exact posterior; give a mixture")
        shape = tuple(prior.event_shape)
        require(observation.event_shape == shape, "observation.event_shape", observation.event_shape, f"give {shape}")
        self.prior, self.observation = prior, observation
        self._matrix, self.transform = observation.matrix(), prior.transform
        self.name = f"{prior.name}, seen by {name_of('observation', observation)}"
        self.posterior = cache(self._posterior)

    @property
    def of_items(self) -> Distribution:
        return cast(Distribution, self.prior.distribution)

    def seen(self, seed: int) -> tuple[Tensor, Tensor]:
        """The truth (*event) and y (*seen) of a seed, float64."""
        truth = self.of_items.sample(1, derived_seed(seed, "truth", 0)).cpu()
        return truth[0], self.observation.measure(truth, Noise(derived_seed(seed, "observation", 0)))[0]

    def _posterior(self, seed: int) -> Distribution:
        return self.of_items.posterior(self._matrix, self.seen(seed)[1].flatten(), self.observation.sigma_y)

    def asked(self, model: Model, method: Any, seed: int) -> Model:
        if method in (None, EXACT):
            return ExactModel(self.posterior(seed), model.sde).to(model.device).eval()
        return Posterior(model, self.observation.to(model.device), self.seen(seed)[1].float(), method).eval()

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        return [_drawn(self, self.posterior(seed), n, seed) for seed in seeds]

    def notes(self, n: int, seeds: int) -> Iterator[str]:
        yield "Each seed has a truth and an observation of its own; real data are draws from its exact posterior."

    @property
    def sigma_max(self) -> float:
        return self.prior.sigma_max

    def measured(self, drawn: Samples, seed: int, method: Any, real: Dataset) -> dict[str, Measurement]:
        x, posterior = drawn.x.double().cpu(), self.posterior(seed)
        found = {"products": drawn.products}
        if isinstance(posterior, GaussianMixture):
            there = torch.bincount(posterior.component(x), minlength=len(posterior.weights)) > 0
            expected = posterior.weights * len(x) >= EXPECTED
            found["modes_found"] = float(there[expected].double().mean())
            found |= covered(x, self.seen(seed)[0])
        return {key: Measurement(value) for key, value in found.items()}


def covered(x: Tensor, truth: Tensor) -> dict[str, float]:
    """The share of the values of the truth (*event) within the central 50 % and 90 % of samples x (n, *event)."""
    below = (x < truth).double().mean(0)
    return {f"coverage_{p}": float(((below - 0.5).abs() <= p / 200).double().mean()) for p in (50, 90)}


def _drawn(problem: Problem, distribution: Distribution, n: int, seed: int) -> Dataset:
    floor, real = (distribution.sample(n, derived_seed(seed, name, 0)).float().cpu() for name in ("floor", "real"))
    return Dataset(floor, real, problem.transform)


class InverseMixture(Inverse):
    """A random Gaussian mixture, see `Mixture`, under random orthonormal measurements.

    Args:
        dimension: of one item.
        components: number of Gaussians.
        rows: number of measurements.
        sigma_y: standard deviation of their noise.
        seed: which mixture and which measurements.
    """

    def __init__(
        self,
        dimension: Count = 8,
        components: Count = 6,
        rows: Count = 3,
        sigma_y: Positive = 0.05,
        seed: NonNegativeInt = 0,
    ) -> None:
        prior = Mixture(dimension, components, seed)
        super().__init__(prior, Projection((dimension,), rows=rows, seed=seed, sigma_y=sigma_y))
        self.dimension, self.components, self.rows, self.sigma_y, self.seed = dimension, components, rows, sigma_y, seed


class InverseModes(Inverse):
    """Equal Gaussians on a circle, see `Ring`, of which the first coordinate is seen: posteriors of several modes.

    Args:
        modes: number of Gaussians.
        radius: of the circle.
        std: of each of them.
        sigma_y: standard deviation of the noise.
    """

    def __init__(self, modes: Count = 8, radius: Positive = 1.5, std: Positive = 0.15, sigma_y: Positive = 0.3) -> None:
        super().__init__(Ring(modes, radius, std), Projection((2,), matrix=[[1.0, 0.0]], sigma_y=sigma_y))
        self.modes, self.radius, self.std, self.sigma_y = modes, radius, std, sigma_y


class InverseFinite(Inverse):
    """The training images of a data set as a finite distribution, of which the upper half is seen.

    Args:
        data: a data source such as `scoresde.data.Digits`.
        sigma_y: standard deviation of the noise, in model units.
    """

    def __init__(self, data: Source, sigma_y: Positive = 1.0) -> None:
        prior = Finite(data)
        shape = tuple(prior.event_shape)
        mask = torch.zeros(shape[1:])
        mask[: shape[1] // 2] = 1
        super().__init__(prior, Inpaint(shape, mask=mask, sigma_y=sigma_y))
        self.data, self.sigma_y = data, sigma_y


def posteriors(
    entries: Any, solvers: Sequence[Candidate], most: int, usual: bool = False, allow: Sequence[str] = ()
) -> list[Candidate]:
    """Each method with each solver.

    Args:
        entries: one or several names of conf/posterior or `exact`, mappings with `posterior` and changes of its
            arguments, or methods. The populations of a `twisted` that gives no `particles` and no `draws` are `most`
            samples each.
        solvers: with which they sample.
        most: samples that are always computed together.
        usual: whether `solvers` was left open, so that a method takes its `usual_solver`, if it has one.
        allow: packages of the user's own, of whose classes `{posterior: custom, _target_: MODULE.CLASS}` may be one.

    Raises:
        InputError: a name or an argument that is not known.
    """
    several = entries if isinstance(entries, Sequence) and not isinstance(entries, str) else [entries]
    asked = [_asked({"posterior": one} if isinstance(one, str) else one, most, allow) for one in several]
    return [
        replace(
            own,
            name=name if len(solvers) == 1 else f"{name} {own.name}",
            solver=(usual and method != EXACT and method.usual_solver) or own.solver,
            method=method,
        )
        for name, method in asked
        for own in solvers
    ]


def _asked(entry: Any, most: int, allow: Sequence[str]) -> tuple[str, Any]:
    """The name and the method of an entry."""
    if not isinstance(entry, Mapping):
        return name_of("posterior", entry), entry
    changes: dict[str, Any] = {str(key): value for key, value in entry.items() if key != "posterior"}
    kind = entry.get("posterior")
    if not isinstance(kind, str):
        raise InputError(f"posteriors: {entry!r} has no name of a method; write {{posterior: NAME, ...}}")
    cfg = {} if kind == EXACT else {**option("posterior", kind), **changes}
    method = build(cfg, "posteriors", allow, Method) if cfg else EXACT
    if isinstance(method, Twisted) and not {"particles", "draws"} & changes.keys() and most > 1:
        method = replace(method, particles=most, draws=most)
    return f"{kind} {', '.join(f'{k}={v}' for k, v in changes.items())}".strip(), method
