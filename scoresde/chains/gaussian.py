"""The Gaussian diffusion chain of 2015: learned rates, and the reverse mean and variance of that paper."""

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.errors import InputError
from scoresde.model import ScoreModel
from scoresde.nets.condition import Cond
from scoresde.precond import Preconditioning
from scoresde.sde import SDE, LevelsVPSDE
from scoresde.variance import LearnedVariance

_SMALLEST, _LARGEST = 1e-6, 1 - 1e-5  # of a learned rate, as in the code of the paper


class LearnedLevels(LevelsVPSDE):
    """The path through levels that are being learned: at a level, lam has the gradient of that level.

    Args:
        lams: gives log(alpha / sigma) of the levels, float64 (N,), with their gradients.
    """

    def __init__(self, lams: Callable[[], Tensor]) -> None:
        self._live = lams
        log_alpha2 = nn.functional.logsigmoid(2 * lams().detach().cpu()).numpy()
        self.alphas = tuple(np.exp(log_alpha2).tolist())
        self._pass_through(log_alpha2, 1e-12, 1e-12)

    def __repr__(self) -> str:
        return f"LearnedLevels({self.last_level + 1} levels)"

    def _lam_at(self, t: Tensor) -> Tensor:
        lam = super()._lam_at(t)
        if not torch.is_grad_enabled():
            return lam
        near = self._live().to(t.device)[(t.detach() * self.last_level).round().long()]
        return lam + near - near.detach()


class GaussianChain(ScoreModel):
    """The Gaussian diffusion chain of Sohl-Dickstein et al. 2015, sampled by the solvers of any score model.

        x_{k+1} = sqrt(1 - beta_k) x_k + sqrt(beta_k) z                                     forward, from data x_0
        x_k ~ N( sqrt(1 - beta_k) x_{k+1} + sqrt(beta_k) F, sigmoid(logit(beta_k) + G / sqrt(N)) )      reverse

    F and G are the halves of the output of the network. The factor sqrt(1 - beta) pulls towards the origin, which keeps
    unit variance. As DDPM's posterior mean this mean is that of a prediction of the data,

        x0_hat = alpha x + c F,   c = sigma^2 / (alpha_before sqrt(beta)),

    which is a prediction of v = -c F / sigma. All rates but the first are parameters, trained through the bound
    with the noise of x_t held: `loss=variational`, whose first and last terms keep them from growing or vanishing.

    Args:
        net: see `ScoreModel`; it returns twice the channels.
        sde: the levels to begin with, such as `DiscreteVPSDE("harmonic")`; the first rate stays.
        learn_rates: whether the others are trained.

    Raises:
        InputError: the path has no levels.

    arXiv 1503.03585 (sections 2.2-2.4, table app.1).
    """

    usual_loss = "variational"

    def __init__(self, net: nn.Module, sde: SDE, learn_rates: bool = True) -> None:
        if not isinstance(sde, LevelsVPSDE):
            raise InputError(f"sde: {type(sde).__name__} has no levels; a chain needs some: give sde=discrete")
        self._initial, self._current, self._key = sde, sde, (-1, False)
        self._seen = torch.empty(0)
        super().__init__(net, sde, "v", 1.0, "logit")
        times = torch.arange(sde.last_level + 1, dtype=torch.float64) / sde.last_level
        with torch.no_grad():
            alpha2 = sde.alpha(times) ** 2
        rates = 1 - alpha2[1:] / alpha2[:-1]
        share = ((rates - _SMALLEST) / (_LARGEST - _SMALLEST)).clamp(1e-9, 1 - 1e-9)
        self._first = math.log(float(alpha2[0]))
        self.learn_rates = learn_rates
        self.logits = nn.Parameter(torch.logit(share).float(), requires_grad=learn_rates)

    @property
    def rates(self) -> Tensor:
        """beta_k of the N steps, float64 (N,), the first of them fixed."""
        learned = _SMALLEST + (_LARGEST - _SMALLEST) * torch.sigmoid(self.logits.double())
        return torch.cat((-torch.expm1(learned.new_full((1,), self._first)), learned))

    def _lams(self) -> Tensor:
        """log(alpha / sigma) of the levels, float64 (N,)."""
        log_alpha2 = torch.log1p(-self.rates).cumsum(0)
        return 0.5 * (log_alpha2 - torch.log(-torch.expm1(log_alpha2)))

    @property
    def sde(self) -> SDE:
        """The path through the levels of now."""
        if "logits" not in self._parameters:
            return self._initial
        key = self.logits._version, self.training
        if self.training or key != self._key:  # fused optimizers change values without a new version
            self._key, now = key, self.logits.detach().cpu()
            if not torch.equal(now, self._seen):
                self._seen, self._current = now.clone(), LearnedLevels(self._lams)
        return self._current

    @sde.setter
    def sde(self, sde: SDE) -> None:
        if sde is not self._initial:
            raise InputError(f"sdes: {type(self).__name__} works under its own path only; leave sdes out")

    @property
    def predicts(self) -> str:
        return f"reverse mean and variance of {self._initial.last_level + 1} steps"

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The four coefficients at a level; between levels c_out is a line in lam."""
        lams = self._lams()
        log_alpha2 = nn.functional.logsigmoid(2 * lams)
        before = torch.cat((torch.zeros_like(log_alpha2[:1]), log_alpha2[:-1]))
        c = torch.exp(nn.functional.logsigmoid(-2 * lams) - 0.5 * before - 0.5 * self.rates.log())
        at = torch.as_tensor(lam, dtype=torch.float64, device=lams.device)
        right = torch.searchsorted(-lams.detach(), -at.detach()).clamp(1, len(lams) - 1)
        part = ((lams[right - 1] - at) / (lams[right - 1] - lams[right])).clamp(0, 1).detach()
        c_out = torch.lerp(c[right - 1], c[right], part)
        return Preconditioning(1.0, alpha, c_out if isinstance(lam, Tensor) else c_out.item(), -lam / 4)

    def halves(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> tuple[Tensor, LearnedVariance | None]:
        out, learned = super().halves(x, c, cond)
        scale = (self._initial.last_level + 1) ** -0.5
        return out, LearnedVariance("logit", cast(LearnedVariance, learned).raw * scale)
