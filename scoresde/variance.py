"""Learned variances of reverse steps: the second half of a network's output, and what it stands for."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from scoresde._shapes import Coefficient, expand
from scoresde.errors import require

Variance = Literal["fixed", "range", "logit"]


def log_variances(sigma: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """The logs of the smallest and the largest variance of each reverse step of a chain, (N,) each.

        lower = added sigma_s^2 / sigma_t^2,   upper = added = sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2

    Step i goes from level i to level i + 1, and the last one from the last level to clean data (sigma_s = 0), where
    `lower` is that of the step before. On a variance-preserving path they are the beta-tilde and the beta of DDPM, of
    the levels that are given: those of respaced steps for some of the levels. They are the variances of a reverse step
    for data that are a point and for data of unit variance (Ho et al. 2020, arXiv 2006.11239, section 3.2).

    Args:
        sigma: of the N levels, from noise to data.
        lam: of these levels, rising.

    Raises:
        InputError: a single level, of which no step before the last is known.
    """
    require(len(lam) >= 2, "levels", len(lam), "a chain needs 2 steps at least")
    added = sigma**2 * -torch.expm1(2 * torch.cat((lam[:-1] - lam[1:], lam.new_full((1,), -torch.inf))))
    lower = torch.log(added[:-1] * (sigma[1:] / sigma[:-1]) ** 2)
    return torch.cat((lower, lower[-1:])), torch.log(added)


class LearnedVariance(NamedTuple):
    """What a network says about the variance of a reverse step, whichever step it is.

        kind    log variance
        range   lower + (1 + raw) / 2 (upper - lower)               Nichol and Dhariwal 2021 (arXiv 2102.09672, eq. 15)
        logit   log sigmoid(logit(beta) + raw),  log beta = upper   Sohl-Dickstein et al. 2015 (arXiv 1503.03585)

    Attributes:
        kind: see above.
        raw: the second half of the output, of the shape of x.
    """

    kind: Variance
    raw: Tensor

    def log(self, lower: Coefficient, upper: Coefficient) -> Tensor:
        """The log variance of a step, of the shape of x, between the logs of `log_variances`.

        Args:
            lower: a number, or one for each sample (B,).
            upper: likewise; below 0 for `logit`, as on variance-preserving paths.
        """
        if self.kind == "range":
            return expand((lower + upper) / 2, self.raw) + self.raw * expand((upper - lower) / 2, self.raw)
        if isinstance(upper, Tensor):
            logit: Coefficient = upper - torch.log(-torch.expm1(upper))
        else:
            logit = upper - math.log(-math.expm1(upper))  # on the host, so that nothing waits for the device
        return logsigmoid(expand(logit, self.raw) + self.raw)
