"""The family of reverse processes that share the marginals of an SDE, as coefficients of x and eps."""

import torch
from torch import Tensor

from scoresde.sde import SDE


def reverse_drift(sde: SDE, t: float | Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (a, b, c) of dx = (a x + b eps) dt + c dw at times t, integrated from T down to 0; float64.

        dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw,   score = -eps / sigma

    eta = 1 is the reverse SDE (Anderson 1982; Song et al. 2021, arXiv 2011.13456, eq. 6), eta = 0 the probability-flow
    ODE (eq. 13); every eta >= 0 has the same marginals.
    """
    g2 = sde.g2(t)
    sigma = sde.sigma(torch.as_tensor(t))
    return sde.f(t), (1 + eta**2) / 2 * g2 / sigma, eta * g2.sqrt()
