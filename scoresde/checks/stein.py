"""The kernel Stein discrepancy of samples under a model, or under a model and what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, Positive, at_least, fitting
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError, require
from scoresde.evaluations import evaluating
from scoresde.metrics.stein import stein_test
from scoresde.model import Model
from scoresde.noise import Noise, chunks
from scoresde.observation import Observation
from scoresde.posterior import MMPS, Posterior
from scoresde.results import Measurement, Metric, Needs, Quantity

_AT_ONCE = 500  # scores


@dataclass(frozen=True)
class Target:
    """The distribution that samples should have, by its score at a noise level.

        s(x, t) = s_prior(x, t) + grad log p(y | x_t = x)

    The second term is that of moment matching, see `scoresde.posterior.MMPS`: it is exact in the limit of small noise.

    Args:
        model: the prior.
        observation: what is seen of an item, in the units of the model; None for the prior alone.
        y: what was observed, as `Posterior` takes it.
    """

    model: Model
    observation: Observation | None = None
    y: Tensor | None = None

    def __call__(self, x0: Tensor, t: float, seed: int) -> tuple[Tensor, Tensor]:
        """Samples x0 (n, *event) at the noise of time t, and the score there; both float64, on the CPU."""
        model, (alpha, sigma, _) = self.model, self.model.levels(t)
        if self.observation is not None and self.y is not None:
            model = Posterior(model, self.observation, self.y, MMPS())
        x0 = x0.double()
        x = alpha * x0 + sigma * Noise(seed).normal("stein", 0, x0.shape, dtype=torch.float64)
        scores = []
        with torch.no_grad(), evaluating(model):
            for rows in chunks(range(len(x)), _AT_ONCE):
                own = model.of_samples(torch.tensor(rows))
                scores.append(own(x[rows.start : rows.stop].to(model.device), t).score.cpu())
        return x, torch.cat(scores)


@dataclass(eq=False)
class KernelStein(Metric):
    """Whether samples have the score of the model, or of the posterior of what was observed; no real item is needed.

    The squared kernel Stein discrepancy of samples that get the noise of a low level, at which the model has a score,
    see `scoresde.metrics.kernel_stein`, and its p-value, see `scoresde.metrics.stein_test`. `scoresde evaluate` says
    which distribution: that of the run, or, of samples that `scoresde sample` drew given an observation, the posterior.

    It finds samples that are off within a mode, too narrow or too wide. It is blind to the weights of modes that are
    far apart, and to a mode that is missing: there the score is the same. So a sampler that chooses wrong modes passes,
    as `mmps` does at 12 floors from the posterior, see docs/posterior.md. It takes the score of the model to be right:
    of a network a small p says that samples and score do not belong together.

    Args:
        at: time of the noise; None for t_min of the SDE, where samplers stop.
        scale: c of the kernel, in model units; None for the median distance of the samples.
        n: at most so many samples, the first ones.
        resamples: of the signs, for the p-value.
        seed: of the noise and the signs.

    Raises:
        InputError: from a call: no distribution is known, or a time outside those of the SDE.

    Of posteriors: arXiv 2602.04189.
    """

    at: Positive | None = None
    scale: Positive | None = None
    n: Annotated[int, at_least(2), fitting(64)] = 1000
    resamples: Count = 999
    seed: NonNegativeInt = 0

    target: Target | None = field(default=None, init=False, repr=False)  # which `scoresde evaluate` sets
    quantities = (
        Quantity("stein", "Stein", "squared kernel Stein discrepancy", note="0 on average of right samples",
                 direction="lower"),
        Quantity("stein_p", "p, Stein", "its p-value", note="small: the samples do not have this score"),
    )  # fmt: skip

    def needs(self) -> Needs:
        return Needs(samples=2)

    def prepare(self, dataset: Dataset) -> None:
        target = self._target
        target.model.needs_gaussian("stein")
        sde = target.model.sde
        fine = self.at is None or sde.t_train <= self.at < sde.t_start
        require(fine, "at", self.at, f"give a time from t_train = {sde.t_train:g} to {sde.t_start:g}")

    @property
    def _target(self) -> Target:
        if self.target is None:
            raise InputError("metrics: the score of these samples is not known here; use stein in scoresde evaluate")
        return self.target

    def __call__(self, samples: Tensor, dataset: Dataset) -> Mapping[str, Measurement]:
        target = self._target
        x, score = target(samples[: self.n].cpu(), self.at or target.model.sde.t_min, self.seed)
        found, p = stein_test(x, score, self.scale, self.resamples, self.seed)
        return {"stein": found, "stein_p": Measurement(p)}
