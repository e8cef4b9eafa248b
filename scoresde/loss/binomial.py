"""The variational bound of a chain of bits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.chains.binomial import BinomialChain, prior_divergence, step_divergence
from scoresde.loss.base import Batch, Loss, LossTerms
from scoresde.noise import Noise

_LEVELS = 64  # of each held-out item
_MOST = 2000  # held-out items, evenly spaced
_AT_ONCE = 500


@dataclass(eq=False)
class BinomialBound(Loss[BinomialChain]):
    """The variational bound of -log p(x_0) for a chain of N steps, in nats an item, from one step of each item.

        N KL(q(x_s | x_t, x_0) || p(x_s | x_t)) + KL(q(x_T | x_0) || prior),   t = T k / N,  s = t - T / N

    with k uniform in 1 ... N; the step of k = 1 is -log p(x_0 | x_1). Its mean is the bound of Sohl-Dickstein et al.
    2015 (arXiv 1503.03585), eq. 14. It is the entropy of the data if the bits are independent and the steps exact.

    Args:
        stratified: see `scoresde.loss.levels.stratified`.
    """

    stratified: bool = True

    states = "bits"

    def __call__(self, model: BinomialChain, batch: Batch) -> LossTerms:
        return LossTerms(self._estimate(model, batch.x0, batch.u, batch.eps, batch.cond))

    def _estimate(self, model: BinomialChain, x0: Tensor, u: Tensor, eps: Tensor, cond: Any) -> Tensor:
        n, end = model.steps, model.sde.T
        k = (u.to(x0.device, torch.float64) * n).floor() + 1
        t, s = k / n * end, (k - 1) / n * end
        x = model.redrawn(x0, t, eps)
        return n * step_divergence(model, x0, x, t, s, cond) + prior_divergence(model, x0)

    def summary(
        self, model: BinomialChain, items: Tensor, conditions: Mapping[str, Tensor], seed: int
    ) -> dict[str, dict[str, float]]:
        """The bound of held-out items (M, *event), in bits an item (log2), with the standard error over the items."""
        means, index = [], torch.arange(min(len(items), _MOST)) * len(items) // min(len(items), _MOST)
        items, conditions = items[index], {name: values[index] for name, values in conditions.items()}
        for first in range(0, len(items), _AT_ONCE):
            x0 = items[first : first + _AT_ONCE].to(model.device)
            cond = {name: values[first : first + len(x0)].to(x0.device) for name, values in conditions.items()}
            noise, total = Noise(seed, range(first, first + len(x0))), torch.zeros(len(x0), dtype=torch.float64)
            for level in range(_LEVELS):
                u = (level + noise.uniform("bound time", level, len(x0))) / _LEVELS
                eps = noise.normal("bound", level, x0.shape, x0.device)
                with torch.no_grad():
                    total += self._estimate(model, x0, u, eps, cond or None).double().cpu()
            means.append(total / _LEVELS / math.log(2))
        each = torch.cat(means)
        error = float(each.std() / len(each) ** 0.5) if len(each) > 1 else math.nan
        return {"bound": {"bits": float(each.mean()), "standard_error": error}}
