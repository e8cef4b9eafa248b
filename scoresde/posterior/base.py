"""A model as the prior of what was observed, and the contract of methods that turn it to the posterior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from scoresde._shapes import Coefficient, expand
from scoresde.control import Guided, Wrapper
from scoresde.described import Rebuildable
from scoresde.divergence.products import require_derivative, with_products
from scoresde.errors import InputError, refuse, require
from scoresde.evaluations import evaluating, uncounted
from scoresde.model import Model, NetworkModel, S
from scoresde.named import named
from scoresde.nets.condition import Cond
from scoresde.noise import Noise
from scoresde.observation import Observation
from scoresde.observation.files import values
from scoresde.prediction import Prediction
from scoresde.sampling import Ancestral, Solver

Product = Callable[[Tensor], Tensor]  # directions v (k, B, *event) to v J of each sample, J = dx0_hat / dx


class Method(Rebuildable, ABC):
    """How a prior, an observation and y become E[x0 | x_t, y], or steps that lead to the posterior.

    A method that changes the score writes `denoised`. One that takes steps between those of the solver is a
    `scoresde.posterior.steps.Loop`, whose `denoised` says what the last step to clean data takes.

    Attributes:
        linear: whether it needs a linear observation.
        divides: whether it divides by sigma_y.
        differentiates: whether it needs the derivative of the network.
        usual_solver: of a sampler that names none; None for `scoresde.sampling.Auto`.
    """

    linear: ClassVar[bool] = True
    divides: ClassVar[bool] = False
    differentiates: ClassVar[bool] = False
    usual_solver: ClassVar[Solver | None] = Ancestral()

    @abstractmethod
    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        """x0_hat given y as well (B, *event), for x (B, *event) at time t."""

    def suits(self, sampler: S) -> S:
        """The sampler with what the method needs between its steps: as it is."""
        return sampler


class Posterior(Wrapper):
    """A model as the prior of what was observed, y = A(x0) + sigma_y n; a sampler cannot tell it from a model.

        score(x, t | y) = score(x, t) + grad log p(y | x_t = x)

    The second term has no closed form: `method` says what takes its place. Methods that are more than a change of the
    score reach the sampler through `Model.suits`, so that for all of them

        scoresde.Sampler(steps=100).sample(Posterior(model, observation, y, method), n=16)

    Args:
        model: the prior.
        observation: A and sigma_y, in the units of the model; see `scoresde.observation.in_units`.
        y: what was observed: (*seen) for all samples, or (n, *seen), of which sample k takes row k mod n.
        method: how; its name in conf/posterior; None for `mmps`.

    Raises:
        InputError: a model of bits or of another shape than the observation, y of another shape or not finite, a method
            that needs a linear observation, sigma_y > 0 or derivatives that the network does not have, guidance with
            steps of its own.
    """

    def __init__(self, model: Model, observation: Observation, y: Tensor, method: Method | str | None = None) -> None:
        method = named("posterior", method or "mmps") if method is None or isinstance(method, str) else method
        parts = {"model": (model, Model), "observation": (observation, Observation), "method": (method, Method)}
        for key, (part, kind) in parts.items():
            require(isinstance(part, kind), key, type(part).__name__, f"give a scoresde {kind.__name__}")
        super().__init__(model)
        model.needs_gaussian("posterior")
        shape, mine = model.event_shape, observation.event_shape
        require(shape is None or tuple(shape) == mine, "observation.event_shape", mine, f"the model has {shape}")
        self.observation, self.method, seen, name = observation, method, observation.seen, type(method).__name__
        refuse(
            method.linear and not observation.linear, f"posterior: {name} needs a linear observation; use mmps or dps"
        )
        if observation.sigma_y == 0:
            require(not method.divides, "observation.sigma_y", 0.0, f"{name} divides by it; give a number > 0")
            if method.linear:
                observation.require_inverse()
        y = y if isinstance(y, Tensor) else values(y, "y")
        require(not y.is_complex(), "y", str(y.dtype), "give real numbers")
        y = y[None] if tuple(y.shape) == seen else y
        require(tuple(y.shape[1:]) == seen and len(y) > 0, "y", tuple(y.shape), f"give {seen}, or rows (n, *{seen})")
        require(bool(torch.isfinite(y).all()), "y", "NaN or infinity", "give finite numbers")
        refuse(any(isinstance(m, Posterior) for m in model.modules()), "model: it has an observation; join the two")
        steps = any(isinstance(m, Guided) and not m.method.of_score for m in model.modules())
        refuse(steps, "guidance_method: it has steps of its own, which no observation leads; give cfg or apg")
        self.y, self.event_shape = y.to(model.device), mine
        self._require_derivative()

    def of_samples(self, rows: Tensor) -> Posterior:
        other = self.around(self.model.of_samples(rows))
        other.y = self.y[rows.to(self.y.device) % len(self.y)]
        return other

    @property
    def usual_solver(self) -> Solver | None:
        return self.method.usual_solver

    def suits(self, sampler: S) -> S:
        return self.method.suits(self.model.suits(sampler))

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        return Prediction.of(x, self.sde, t, x0=self.method.denoised(self, x, t, cond))

    def _require_derivative(self) -> None:
        if self.network is None or not self.method.differentiates or math.prod(self.observation.event_shape) < 2:
            return
        own, t, std = self.model.of_samples(torch.arange(2)), self.sde.t_start, self.sde.prior_std
        z = std * Noise(0).normal("derivative", 0, (4, *self.observation.event_shape), self.y.device, torch.float64)
        x, direction = z[:2], z[2:]
        with torch.no_grad(), evaluating(self.model), uncounted():
            try:
                own(x, t)
            except InputError:  # it lacks a condition, which a wrapper around may bring
                return
            require_derivative(lambda x: own(x, t).x0, x, direction, "posterior")

    # ---- what methods ask ----

    @property
    def network(self) -> NetworkModel | None:
        """The network within wrappers, if there is one."""
        return next((m for m in self.model.modules() if isinstance(m, NetworkModel)), None)

    def plain(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Tensor:
        """x0_hat of the prior (B, *event)."""
        return self.model(x, t, cond).x0

    def with_products(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> tuple[Tensor, Product]:
        """x0_hat of the prior (B, *event), and what takes products with its Jacobian, all from one evaluation."""
        return with_products(lambda z: self.plain(z, t, cond), x, "posterior")

    def noise_ratio(self, t: float | Tensor) -> Coefficient:
        """(sigma / alpha)^2 at t: the variance of the noise in x / alpha."""
        alpha, sigma, _ = self.levels(t)
        ratio: Coefficient = sigma / alpha
        return ratio * ratio

    def covariance_factor(self, t: float | Tensor) -> Coefficient:
        """sigma^2 / alpha at t: Cov[x0 | x_t] = (sigma^2 / alpha) dx0_hat/dx, by Tweedie's formula of second order."""
        alpha, sigma, _ = self.levels(t)
        factor: Coefficient = sigma * sigma / alpha
        return factor

    def rows(self, x: Tensor) -> Tensor:
        """y for each of the samples x (B, *event), (B, *seen)."""
        if len(self.y) not in (1, len(x)):
            raise InputError(f"y: {len(self.y)} rows for {len(x)} samples; choose those of the samples by of_samples")
        return self.y.to(x).expand(len(x), *self.y.shape[1:])

    def left(self, x0: Tensor) -> Tensor:
        """y - A(x0), (B, *seen)."""
        seen: Tensor = self.observation(x0)
        return self.rows(x0) - seen

    def pulled(self, x0: Tensor, r: Coefficient) -> Tensor:
        """The mean of N(x0, r I) given y: x0 + r A^T (r A A^T + sigma_y^2)^-1 (y - A x0), for linear A."""
        u = self.observation.solve(self.left(x0), r, self.observation.sigma_y**2)
        return x0 + expand(r, x0) * self.observation.adjoint(u)


def posterior_in(model: Model) -> Posterior:
    """The posterior within wrappers.

    Raises:
        InputError: there is none.
    """
    found = next((m for m in model.modules() if isinstance(m, Posterior)), None)
    if found is None:
        raise InputError("solver: its steps belong to a posterior, and this model is none; sample a Posterior")
    return found
