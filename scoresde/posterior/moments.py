"""Methods that take x0 given x_t as a Gaussian whose covariance is the Jacobian of the denoiser, or a multiple of I."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.constraints import Count, NonNegativeInt, Positive
from scoresde.nets.condition import Cond
from scoresde.posterior.base import Method, Posterior
from scoresde.posterior.projected import arnoldi, whole
from scoresde.posterior.tangent import Tangent
from scoresde.progress import note
from scoresde.sampling.grid import widest

_NETWORK, _EXACT = 3, 50  # iterations
_MISSED = 3.0  # root mean square of y - A(x0), in sigma_y, that is too much
_SAID: set[object] = set()  # methods that did not converge, which is said once


@dataclass(frozen=True, repr=False)
class MMPS(Method):
    """Moment matching: x0 given x_t is taken as N(D, V), with the mean and the covariance that the denoiser D has.

        x0_hat = D + V A^T u,   (A V A^T + sigma_y^2 I) u = y - A(D),   V = (sigma^2 / alpha) J^T,   J = dD/dx_t

    V is exact for an exact score, whose J is symmetric, so Gaussian data have their exact posterior once u is solved
    for. A network's J is neither symmetric nor positive: J^T, by backward derivatives of the one evaluation, is used
    throughout, in a small space whose matrix is made so, see `scoresde.posterior.projected`, and V A^T u is held to the
    length that data allow. Neither acts on an exact score.
    Of other data the third moment is lost: where x0 given x_t has several modes, their weights are wrong.
    A nonlinear A is replaced by its tangent at D.

    Samples are 19 (10 to 36) floors away at sigma_y = 0.05 and 16 (7.3 to 37) at 0.3 from the exact posterior of
    8-D mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        iterations: most steps, of one product each; 1 to 5 were published. None for 3 of a network, whose samples are
            no better with 5, see docs/posterior.md, and 50 of other scores.
        tolerance: of |residual| / |y - A(D)|, at which a sample is done.
        dense: values of y up to which A V A^T is formed, by as many products in one pass; 0 always iterates.

    Rozet et al. 2024 (arXiv 2405.13712), section 4; the dense form is that of Boys et al. 2023 (arXiv 2310.06721).
    """

    iterations: Count | None = None
    tolerance: Positive = 1e-4
    dense: NonNegativeInt = 16

    linear, differentiates = False, True

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        x0, product = asked.with_products(x, t, cond)
        factor, left, tangent = expand(asked.covariance_factor(t), x), asked.left(x0), Tangent(asked.observation, x0)
        noise, size = asked.observation.sigma_y**2, left[0].numel()

        def gain(u: Tensor) -> Tensor:
            return factor * product(torch.stack([tangent.adjoint(one) for one in u]))

        if size <= self.dense:
            step, energy, _ = whole(gain, tangent, left, noise)
            return x0 + held(asked, t, step, energy)
        steps = self.iterations or (_EXACT if asked.network is None else _NETWORK)
        step, energy, residual = arnoldi(gain, tangent, left, noise, steps, self.tolerance)
        found = x0 + held(asked, t, step, energy)
        if steps < size and self not in _SAID:
            self._judge(asked, t, steps, residual, found)
        return found

    def _judge(self, asked: Posterior, t: float | Tensor, steps: int, residual: Tensor, found: Tensor) -> None:
        """Say once that the steps are too few: of a network where y is missed though x has less noise than y.

        A V A^T of a network is not symmetric, so that the residual does not fall to the tolerance. At high noise V is
        wide, and what is missed there is found by later evaluations.
        """
        sigma_y = asked.observation.sigma_y
        if asked.network is None:
            worst, most, what = float(residual.max()), self.tolerance, "a residual of {:.2g}"
        elif bool(torch.as_tensor(asked.noise_ratio(t) > sigma_y**2).any()):
            return
        else:
            worst = float(flat(asked.left(found)).square().mean(1).sqrt().max()) / sigma_y
            most, what = _MISSED, "samples {:.2g} sigma_y away from y"
        if worst > most:
            _SAID.add(self)
            leave = "1 step leaves" if steps == 1 else f"{steps} steps leave"
            note(f"warning: {leave} {what.format(worst)} in {self!r}; raise iterations, or tolerance")


@dataclass(frozen=True, repr=False)
class PiGDM(Method):
    """Pseudo-inverse guidance: x0 given x_t is taken as N(D, r^2 I), and its mean as D(x_t).

        x0_hat = D + (sigma^2 / alpha) J^T A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A D),   r^2 = s^2 sd^2 / (s^2 + sd^2)

    with s = sigma / alpha and J = dD/dx_t: one product for each evaluation. Exact if the data are N(m, sd^2 I).

    Samples are 31 (18 to 54) floors away at sigma_y = 0.05 and 25 (14 to 43) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %); with sigma_data = 0.25, about the spread within
    a mode, 3.1 (1.1 to 8.5) and 3.6 (1.2 to 11): a wide N(D, r^2 I) follows y too late to choose a mode by it.

    Algorithm 1 of the paper, which azula has, moves x after each step by alpha_s alpha_t J^T A^+ (y - A D). That move
    does not shrink with the steps: more of them guide more, as a smaller sd does.

    Args:
        sigma_data: sd, the standard deviation of the data, or less where these have modes; None for that of the model.

    Song et al. 2023 (Pseudoinverse-guided diffusion models for inverse problems, ICLR), eq. 7 and 8, where sd = 1.
    """

    sigma_data: Positive | None = None

    differentiates = True

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        x0, product = asked.with_products(x, t, cond)
        s2, sd2, left = asked.noise_ratio(t), (self.sigma_data or asked.sigma_data) ** 2, asked.left(x0)
        u = asked.observation.solve(left, s2 * sd2 / (s2 + sd2), asked.observation.sigma_y**2)
        step = expand(asked.covariance_factor(t), x) * product(asked.observation.adjoint(u)[None])[0]
        return x0 + (step if asked.network is None else damped(asked, step, u, left))


@dataclass(frozen=True, repr=False)
class DiffPIR(Method):
    """Plug-and-play restoration: x0_hat is the proximal point of the denoiser's D, and no derivative is taken.

        x0_hat = argmin_x |y - A x|^2 / (2 sigma_y^2) + |x - D|^2 lam / (2 s^2),   s = sigma / alpha
               = D + r A^T (r A A^T + sigma_y^2 I)^-1 (y - A D),   r = s^2 / lam

    The published share of fresh noise, zeta, is the eta of a sampler.

    Samples are 40 (20 to 80) floors away at sigma_y = 0.05 and 30 (15 to 57) at 0.3 from the exact posterior of 8-D
    mixtures (benchmarks/posterior.py, 5 problems, n = 2,000, 95 %).

    Args:
        lam: weight of the prior; 1 to 25 were published.

    Zhu et al. 2023 (arXiv 2305.08995), algorithm 1.
    """

    lam: Positive = 1.0

    def denoised(self, asked: Posterior, x: Tensor, t: float | Tensor, cond: Cond) -> Tensor:
        return asked.pulled(asked.plain(x, t, cond), asked.noise_ratio(t) / self.lam)


def held(asked: Posterior, t: float | Tensor, step: Tensor, energy: Tensor) -> Tensor:
    """V A^T u (B, *event), no longer than it can be if V <= v I: |V A^T u|^2 <= v u^T A V A^T u.

    Cauchy's inequality, with v = (2 + sqrt(D))^2 s^2 sd^2 / (s^2 + sd^2), s = sigma / alpha: the length of the noise in
    x / alpha bounds V, and so does the covariance of the data. A model that is no network may not know its scale.
    """
    if asked.network is None:
        return step
    s2, sd2 = asked.noise_ratio(t), max(1.0, asked.network.sigma_data) ** 2
    most = (widest(step[0].numel()) ** 2 * s2 * sd2 / (s2 + sd2) * energy).sqrt()
    part = (most / flat(step).double().norm(dim=1).clamp(min=1e-300)).clamp(max=1.0)
    return step * expand(part.to(step), step)


def damped(asked: Posterior, step: Tensor, u: Tensor, left: Tensor) -> Tensor:
    """V A^T u (B, *event), at most as far as one step of steepest descent for (A V A^T + sigma_y^2 I) u = left goes."""
    u, left, seen = (flat(v).double() for v in (u, left, asked.observation(step)))
    energy = (u * seen).sum(1)
    part = (u * left).sum(1) / (energy + asked.observation.sigma_y**2 * u.square().sum(1)).clamp(min=1e-300)
    return step * expand(torch.where(energy > 0, part.clamp(0.0, 1.0), 0.0).to(step), step)
