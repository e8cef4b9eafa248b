"""The variational bound of reverse chains: as a loss, and as a number with its error."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.special import log_ndtr

from scoresde._shapes import expand, flat
from scoresde.constraints import Count, NonNegativeInt
from scoresde.errors import InputError, require
from scoresde.loss.base import Batch, Loss, LossTerms
from scoresde.model import Model, ScoreModel
from scoresde.noise import Noise
from scoresde.prediction import Prediction
from scoresde.sde import SDE
from scoresde.sde.base import half_log_snr
from scoresde.variance import log_variances

_FAR = 1e4  # standard deviations, for the open ends of the first and the last level
_HYBRID = 0.001 / math.log(2)  # 0.001 of the bound in bits, as in the code of arXiv 2102.09672


class Bound(NamedTuple):
    """The bound of -log p(x0) of a data set, in nats an item.

    Attributes:
        value: the sum of the terms.
        error: its standard error, from the spread over the items.
        terms: (N + 1,) float64, L_0 ... L_N of Ho et al. 2020 (arXiv 2006.11239, eq. 5): the data given the first
            level, the N - 1 steps between levels, and the divergence of the last level from the prior.
        errors: the standard error of each term, (N + 1,).
    """

    value: float
    error: float
    terms: Tensor
    errors: Tensor


class Levels(NamedTuple):
    """The levels of quantised data in model units: half of their distance, the first and the last one."""

    half: float = 1 / 256
    first: float = -1.0
    last: float = 1 - 1 / 128


class Chain(NamedTuple):
    """N levels from data to noise, and the log variances of the reverse steps from each, (N,) float64."""

    times: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor
    lower: Tensor
    upper: Tensor

    @property
    def last(self) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) of the noisiest level."""
        return self.alpha[-1], self.sigma[-1]

    @classmethod
    def of(cls, sde: SDE, levels: int = 0) -> "Chain":
        """The levels of a path that has numbered ones, or `levels` equal times of another.

        Raises:
            InputError: fewer than 2 levels, or another number than the path has.
        """
        own = getattr(sde, "last_level", -1) + 1
        refused = own and levels not in (0, own)
        require(not refused, "levels", levels, f"{type(sde).__name__} has {own} levels of its own; give 0")
        require(bool(own) or levels >= 2, "levels", levels, "give the number of levels of the chain, >= 2")
        numbers = torch.arange(own or levels, dtype=torch.float64)
        times = numbers / (own - 1) if own else sde.t_start * (numbers + 1) / levels
        alpha, sigma = sde.alpha(times), sde.sigma(times)
        lam = half_log_snr(alpha, sigma)
        lower, upper = log_variances(sigma.flip(0), lam.flip(0))
        return cls(times, alpha, sigma, lam, lower.flip(0), upper.flip(0))


@dataclass(eq=False)
class VariationalBound(Loss[ScoreModel]):
    """The bound of -log p(x0) by a reverse chain of N levels, in nats as a mean over dimensions.

        L_0 = -log p(x0 | x_1),   L_k = KL(q(x_k | x_{k+1}, x0) || p(x_k | x_{k+1})),   L_N = KL(q(x_N | x0) || prior)

    The mean of a reverse step is that of q with x0_hat in place of x0. Its variance is the learned one of the model, or
    what the model's variance of x0 implies, or a fixed one. Each item of a batch is at one level, whose term counts N
    times.

    Args:
        levels: N; 0 on a path with levels of its own.
        hybrid: the error |eps_hat - eps|^2, which alone trains the mean, and 0.001 of the bound in bits.
        variance: the fixed one: `lower` (beta-tilde) or `upper` (beta), both with beta-tilde of the step before at L_0.
        data: `continuous`, of which L_0 is a density in model units, or `8bit`, images whose levels have probabilities.
        stratified: see `DenoisingScoreMatching`.
        importance: see `DenoisingScoreMatching`; u are the levels.

    Raises:
        InputError: a model of another kind, a chain of one step, or a number of levels that the path does not have.

    Ho et al. 2020 (arXiv 2006.11239, eq. 5 and 13); hybrid: Nichol and Dhariwal 2021 (arXiv 2102.09672, section 3.1);
    Sohl-Dickstein et al. 2015 (arXiv 1503.03585, section 2.4).
    """

    levels: NonNegativeInt = 0
    hybrid: bool = False
    variance: Literal["lower", "upper"] = "lower"
    data: Literal["continuous", "8bit"] = "continuous"
    stratified: bool = True
    importance: bool = False

    def __post_init__(self) -> None:
        self.data_levels = Levels() if self.data == "8bit" else None

    def range_of_lam(self, model: ScoreModel) -> tuple[float, float]:
        lam = self._chain(model).lam.detach()
        return float(lam[-1]), float(lam[0])

    def _chain(self, model: Model) -> Chain:
        if not isinstance(model, Model):
            raise InputError(f"loss: {type(self).__name__} needs a ScoreModel, not {type(model).__name__}")
        return Chain.of(model.sde, self.levels)

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        chain, x0 = self._chain(model), batch.x0
        n, size = len(chain.times), math.prod(x0.shape[1:])
        k = (batch.u * n).long().clamp(max=n - 1).to(chain.times.device)
        prediction, x0_hat = self._predict(model, chain, k, batch)
        bound = n * self._term(chain, k, x0, prediction, x0_hat) + prior_term(*chain.last, x0, model.sde.prior_std)
        if self.hybrid:
            simple = flat((prediction.eps - batch.eps) ** 2).mean(1)
            return LossTerms(simple + _HYBRID / size * bound, chain.lam[k].detach())
        return LossTerms(bound / size, chain.lam[k].detach())

    def _predict(self, model: Model, chain: Chain, k: Tensor, batch: Batch) -> tuple[Prediction, Tensor]:
        """The prediction at the levels k (B,), and its x0, through which nothing is learned if hybrid."""
        x0 = batch.x0
        x = expand(chain.alpha[k].to(x0.device), x0) * x0 + expand(chain.sigma[k].to(x0.device), x0) * batch.eps
        prediction = model(x, chain.times[k].to(x0.device), batch.cond)
        return prediction, prediction.x0.detach() if self.hybrid else prediction.x0

    def _term(self, chain: Chain, k: Tensor, x0: Tensor, prediction: Prediction, x0_hat: Tensor) -> Tensor:
        """The term of the step from level k (B,) to the one before, for each item in nats (B,)."""
        last = k == 0
        before = (k - 1).clamp(min=0)
        # what x0 is multiplied by in the mean of the step, and the log variance of the step for known x0
        gain = torch.where(last, 1.0, -chain.alpha[before] * torch.expm1(2 * (chain.lam[k] - chain.lam[before])))
        gain, known, lower, upper = (c.to(x0.device) for c in (gain, chain.lower[k], chain.lower[k], chain.upper[k]))
        last = last.to(x0.device)
        if prediction.learned is not None:
            log_variance = prediction.learned.log(lower, upper)
        elif prediction.variance is not None:
            without = torch.where(last, 0.0, known.exp())
            log_variance = (expand(without, x0) + expand(gain**2, x0) * prediction.variance).log()
        else:
            fixed = lower if self.variance == "lower" else torch.where(last, lower, upper)
            log_variance = torch.as_tensor(expand(fixed, x0)).expand(x0.shape)
        error = expand(gain**2, x0) * (x0 - x0_hat) ** 2 * torch.exp(-log_variance)
        ratio = expand(known, x0) - log_variance
        divergence = 0.5 * (torch.expm1(ratio) - ratio + error)
        if self.data_levels is not None:
            data = _negative_log_level(x0, x0_hat, log_variance, self.data_levels)
        else:
            data = 0.5 * (math.log(2 * math.pi) + log_variance + error)
        return flat(torch.where(last.reshape(-1, *(1,) * (x0.ndim - 1)), data.to(x0.dtype), divergence)).sum(1)

    @torch.no_grad()
    def evaluate(
        self,
        model: Model,
        data: Tensor,
        *,
        seed: int = 0,
        batch_size: Count = 1024,
        prior: tuple[Tensor, Tensor] | None = None,
    ) -> Bound:
        """The bound of data, each item at every level with noise of its own.

        Args:
            model: any model on a Gaussian path, such as the average of a training in evaluation mode.
            data: items in model units, (M, *event), M >= 2.
            seed: of the noise.
            batch_size: items at a time.
            prior: mean and variance of a Gaussian prior of the last level, broadcastable to an item; N(0, prior_std^2)
                by default.

        Raises:
            InputError: see the class, and for fewer than two items.
        """
        require(len(data) >= 2, "data", len(data), "an error needs two items at least")
        chain, rows = self._chain(model), []
        n = len(chain.times)
        for first in range(0, len(data), batch_size):
            x0 = data[first : first + batch_size]
            noise = Noise(seed, range(first, first + len(x0)))
            found = torch.empty(len(x0), n + 1, dtype=torch.float64, device=x0.device)
            for level in range(n):
                eps = noise.normal("bound", level, x0.shape, x0.device, x0.dtype)
                k = torch.full((len(x0),), level)
                batch = Batch(x0, torch.zeros(len(x0), dtype=torch.float64), eps)
                found[:, level] = self._term(chain, k, x0, *self._predict(model, chain, k, batch))
            found[:, n] = prior_term(*chain.last, x0, model.sde.prior_std, prior)
            rows.append(found)
        items = torch.cat(rows)
        totals, root = items.sum(1), math.sqrt(len(items))
        return Bound(float(totals.mean()), float(totals.std()) / root, items.mean(0), items.std(0) / root)


def prior_term(
    alpha: Tensor, sigma: Tensor, x0: Tensor, std: float, prior: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """KL of the last level given x0 from the prior N(0, std^2), or from N(*prior), for each item in nats (B,)."""
    mean, variance = prior or (torch.zeros(()), torch.tensor(std**2, dtype=torch.float64))
    mean, variance = mean.to(x0), variance.to(x0)
    alpha, sigma2 = alpha.to(x0), (sigma**2).to(x0)
    ratio = sigma2 / variance
    return flat(0.5 * (ratio - 1 - ratio.log() + (alpha * x0 - mean) ** 2 / variance)).sum(1)


def _negative_log_level(x0: Tensor, mean: Tensor, log_variance: Tensor, levels: Levels) -> Tensor:
    """-log of the probability of the level of each value, whose first and last one are open."""
    x0, mean, log_variance = (a.to(torch.float64) for a in (x0, mean, log_variance))  # or equal ends have no logarithm
    precision, half = torch.exp(-0.5 * log_variance), levels.half
    low, high = (precision * (x0 - mean + side) for side in (-half, half))
    low = torch.where(x0 < levels.first + half, -_FAR, low)
    high = torch.where(x0 > levels.last - half, _FAR, high)
    right = low + high > 0  # of the two tails the one that keeps its digits
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    upper = log_ndtr(high)
    inside: Tensor = upper + torch.log(-torch.expm1(log_ndtr(low) - upper))
    return -inside
