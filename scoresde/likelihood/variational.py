"""The variational bound of the reverse SDE of a model, and what a density at the cut-off leaves out at both ends.

A chain from x_0 to the noisy x at the cut-off, along the SDE to T, and to the prior, has the bound

    -log p(x_0)  <=  KL(q(x_T | x_0) | prior)  +  int E|eps_hat - eps|^2 dlam  +  E[-log p(x_0 | x)]

of the mismatch of the prior, the diffusion, and the reconstruction from the cut-off: Song et al. 2021 (arXiv
2101.09258, theorem 3), Kingma et al. 2021 (arXiv 2107.00630, eq. 11). With exact scores it is -log p(x_0) itself.
"""

import math
from typing import Any

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.loss import Batch, VariationalBound
from scoresde.loss.bound import Levels, prior_term
from scoresde.model import Model
from scoresde.noise import Noise

_REACH, _STEP = 10.0, 0.02  # of the trapezoidal rule over normal noise


def prior_mismatch(model: Model, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) | prior) of each item in nats (B,), in closed form."""
    alpha, sigma, _ = torch.tensor(model.sde.at(model.sde.t_start), dtype=torch.float64)
    return prior_term(alpha, sigma, x0, model.sde.prior_std)


def diffusion(model: Model, x0: Tensor, noise: Noise, draws: int, at: float) -> Tensor:
    """The term of the diffusion in nats, one estimate for each draw (B, draws).

        1/2 int g^2 / sigma^2 E|eps_hat - eps|^2 dt  =  int E|eps_hat - eps|^2 dlam

    Times of density g^2 / sigma^2, which make each time count alike, are uniform in lam. Those of an item are
    stratified.

    Args:
        model: what predicts these items.
        x0: items in model units (B, *event), float64.
        noise: random numbers of these items.
        draws: times of each item.
        at: the cut-off.
    """
    low, high = (float(model.sde.lam(t)) for t in (model.sde.t_start, at))
    found = []
    for k in range(draws):
        u = (k + noise.uniform("bound times", k, len(x0))) / draws
        t = model.sde.t_of_lam(low + (high - low) * u).clamp(at, model.sde.t_start)
        found.append((high - low) * _squared_error(model, x0, noise, k, t))
    return torch.stack(found, 1)


def _squared_error(model: Model, x0: Tensor, noise: Noise, k: int, t: float | Tensor) -> Tensor:
    """An unbiased estimate of E|eps_hat - eps|^2 of each item (B,) at a time, or one for each.

        |eps_hat - eps|^2 - |eps_G - eps|^2 + E|eps_G - eps|^2,   eps_G - eps = alpha (sigma x0 - alpha s^2 eps) / rho^2

    with rho^2 = alpha^2 s^2 + sigma^2: the error that Gaussian data N(0, s^2), s = sigma_data, would have is known.
    """
    eps = noise.normal("bound", k, x0.shape, x0.device, x0.dtype)
    alpha, sigma = (expand(c, x0) for c in model.levels(t)[:2])
    gain = alpha / (alpha**2 * model.sigma_data**2 + sigma**2)
    of_x0, of_eps = gain * sigma * x0, gain * alpha * model.sigma_data**2 * torch.ones_like(eps)
    error = model(alpha * x0 + sigma * eps, t.to(x0.device) if isinstance(t, Tensor) else t).eps - eps
    return flat(error**2 - (of_x0 - of_eps * eps) ** 2 + of_x0**2 + of_eps**2).sum(1)


def decoded(model: Model, x0: Tensor, noise: Noise, draws: int, at: float) -> Tensor:
    """-log p(x_0 | x) of data without levels in nats, for p = N(x0_hat, (sigma / alpha)^2): (B, draws).

    It is |eps_hat - eps|^2 / 2 + D log(2 pi sigma^2 / alpha^2) / 2. Arguments as for `diffusion`.
    """
    alpha, sigma, _ = model.sde.at(at)
    constant = 0.5 * math.prod(x0.shape[1:]) * math.log(2 * math.pi * (sigma / alpha) ** 2)
    errors = [_squared_error(model, x0, noise, -1 - k, at) for k in range(draws)]
    return 0.5 * torch.stack(errors, 1) + constant


def level_costs(levels: int, tau: float) -> Tensor:
    """E[-log p(x_0 | x)] of each level of one value in nats (levels,), for p(level | x) proportional to q(x | level).

        E log sum_j exp((e^2 - (e + 2 tau (i - j))^2) / 2),   e ~ N(0, 1)

    Kingma et al. 2021 (arXiv 2107.00630, section 3.3): it does not depend on the model, nor on x.

    Args:
        levels: how many there are, at equal distances.
        tau: half of this distance in standard deviations of the noise.
    """
    e = torch.arange(-_REACH, _REACH + _STEP / 2, _STEP, dtype=torch.float64)
    weights = torch.softmax(-0.5 * e**2, 0)
    apart = 2 * tau * (torch.arange(levels) - torch.arange(levels)[:, None]).double()
    return torch.stack([weights @ torch.logsumexp(e[:, None] * d - 0.5 * d**2, 1) for d in apart])


def chain_bound(model: Model, x0: Tensor, noise: Noise, draws: int, levels: Levels | None) -> Tensor:
    """The bound of the discrete chain of a path with numbered levels, in nats, one estimate for each draw (B, draws).

    See `scoresde.loss.VariationalBound`. Arguments as for `diffusion`, and the levels of quantised data, of which it
    bounds a probability; None for a density in model units.
    """
    loss: Any = VariationalBound()  # it takes any model on such a path
    loss.data_levels, found = levels, []
    for k in range(draws):
        u = (k + noise.uniform("chain times", k, len(x0))) / draws
        eps = noise.normal("chain", k, x0.shape, x0.device, x0.dtype)
        found.append(math.prod(x0.shape[1:]) * loss(model, Batch(x0, u, eps)).loss)
    return torch.stack(found, 1)
