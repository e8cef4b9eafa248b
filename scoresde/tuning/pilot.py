"""Starts whose endpoints are known, and the errors of a rule on them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.evaluations import evaluating
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sampling.auto import Auto, Combination
from scoresde.sampling.sampler import Sampler
from scoresde.sde import SDE


@dataclass(frozen=True)
class Error:
    """Endpoint errors |x - x_exact| over a batch, in model units."""

    mean: float
    median: float
    rms: float
    p95: float

    @classmethod
    def of(cls, distances: Tensor) -> "Error":
        """From the distances (B,)."""
        rms = float(distances.square().mean().sqrt())
        return cls(float(distances.mean()), float(distances.median()), rms, float(distances.quantile(0.95)))


Shifts = Sequence[Sequence[float]] | None


def no_noise(k: int = 0) -> Tensor:
    raise AssertionError("only rules without noise are tuned")


@torch.no_grad()
def seconds_each(model: Model, event_shape: Sequence[int] | None, n: int) -> float:
    """Time of one evaluation in batches of n samples, from the second call of two."""
    with evaluating(model):
        x = Sampler().prior(model, event_shape or model.event_shape or (), n, Noise(0))
        for _ in range(2):
            began = time.perf_counter()
            float(model.of_samples(torch.arange(n))(x, model.sde.t_start).x0.sum())  # waits for the device
    return (time.perf_counter() - began) / n


@dataclass
class Pilot:
    """Starts and their endpoints by a fine rule.

    Attributes:
        model: what predicts, for the samples of these starts.
        x, exact: starts and endpoints, both (B, *event).
    """

    model: Model
    x: Tensor
    exact: Tensor

    @classmethod
    def of(cls, model: Model, event_shape: Sequence[int] | None, seed: int, rows: range, fine: int) -> "Pilot":
        """The samples number `rows` of a seed, with a reference of `fine` steps of `Auto`."""
        model.needs_gaussian("tune")
        path = Sampler(Auto(), steps=fine).trajectory(model, event_shape, rows=rows, seed=seed)
        _, x = next(path)
        for _, exact in path:  # noqa: B007 - the last one is the endpoint
            pass
        return cls(model.of_samples(torch.tensor(rows)), x, exact)

    def missed(
        self, times: Tensor, shifts: Shifts = None, kept: Sequence["Kept"] = (), keep: list["Kept"] | None = None
    ) -> Tensor:
        """Endpoints of `Auto` less the exact ones (B, D), float64.

        Args:
            times: of its N evaluations; noise zero follows.
            shifts: of its coefficients, see `scoresde.sampling.auto.Combination`.
            kept: the first steps of a walk from which this one differs in the last of them at the earliest.
            keep: takes each step of this walk.
        """
        rule = Combination(self.model.sigma_data, shifts=shifts)
        plan = rule.plan(self.model.sde, torch.cat((times, torch.zeros(1, dtype=torch.float64))))
        x, state, known = kept[-1] if kept else (self.x, None, None)
        state = state and state._replace(rows=plan[0][1].to(x))
        for row in plan[max(len(kept) - 1, 0) :]:
            known = self.model(x, row[0]) if known is None else known
            if keep is not None:
                keep.append((x, state, known))
            state = state and state._replace(seen=state.seen.clone())  # which the rule writes into
            x, state = rule.step(_Answer(self.model.sde, known), x, row, state, no_noise)  # type: ignore[arg-type]
            known = None
        return flat(x - self.exact).double()

    def moved(self, noise: Tensor, radius: float, times: Tensor, shifts: Shifts = None) -> "Pilot":
        """Starts near their noise that `Auto` takes closer to the same endpoints, by one step of gradient descent.

            x <- P(x - g e / |g|^2),   e = |x_N(x) - x_exact(noise)|,   g = de / dx

        with P the projection onto the ball; a start stays where e does not fall. So what the rule aims at is the exact
        solution of a start in the ball around its own. Tong et al. 2024 (arXiv 2405.15506), section 4.2.

        Args:
            noise: the centres of the balls (B, *event).
            radius: of the balls, over prior_std sqrt(D), which is about the size of the noise.
            times: of the evaluations of the rule.
            shifts: of its coefficients.
        """
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            error = replace(self, x=x).missed(times, shifts).norm(dim=1)
            slope = flat(torch.autograd.grad(error.sum(), x)[0])
        error = error.detach()
        far = flat(x.detach() - noise) - slope * (error / slope.square().sum(1))[:, None].to(slope)
        limit = radius * self.model.sde.prior_std * far.shape[1] ** 0.5
        far *= limit / far.norm(dim=1, keepdim=True).clamp(min=limit)
        new = replace(self, x=noise + far.view_as(noise))
        nearer = new.missed(times, shifts).norm(dim=1) < error
        return replace(self, x=torch.where(nearer.view(-1, *(1,) * (noise.ndim - 1)), new.x, self.x))

    def distances(self, times: Tensor, shifts: Shifts = None) -> Tensor:
        """Endpoint errors (B,), float64; infinite where they are NaN."""
        distances: Tensor = self.missed(times, shifts).norm(dim=1)
        return distances.nan_to_num(nan=math.inf).cpu()


Kept = tuple[Tensor, Any, Prediction | None]  # before a step: x, the state, and what the model predicts there


@dataclass(frozen=True)
class _Answer:
    """In place of a model, where what it predicts is known."""

    sde: SDE
    known: Prediction

    def __call__(self, x: Tensor, t: float) -> Prediction:
        return self.known
