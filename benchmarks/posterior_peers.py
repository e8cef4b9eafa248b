"""Posterior samplers of other libraries on the problems of benchmarks/posterior.py: azula and deepinv.

Both are optional: `pip install --no-deps azula deepinv einops`; deepinv asks for torchvision, torchmetrics, natsort,
h5py and requests too. Where the torchvision that can be had was built for another torch, its two operators are declared
by name: no sampler calls them.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from posterior_problems import SDE, Problem, Row
from torch import Tensor

from scoresde import GaussianMixture
from scoresde.sampling import LambdaUniform


def azula_rows() -> Iterator[tuple[str, Row]]:
    """Posterior samplers of azula on its VP schedule, with 100 steps."""
    if importlib.util.find_spec("azula") is None:
        print("azula is not installed")
        return
    from azula import denoise, guidance, linalg, noise, sample

    schedule = noise.VPSchedule(alpha_min=float(SDE.alpha(SDE.T)), sigma_min=float(SDE.sigma(SDE.t_min)))

    class Given(denoise.Denoiser):  # type: ignore[misc]
        def __init__(self, data: GaussianMixture) -> None:
            super().__init__()
            self.data, self.schedule, self.spent = data, schedule, 0

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            self.spent += len(x_t)
            return denoise.DiracPosterior(self.data.posterior_mean(x_t, *(float(c) for c in schedule(t))))

    def row(make: Callable[[Any, Problem], Any]) -> Row:
        def draw(problem: Problem, n: int) -> tuple[Tensor, float, float]:
            torch.manual_seed(0)
            given = Given(problem.data)
            z = torch.randn(n, len(problem.data.means[0]), dtype=torch.float64)
            x = make(given, problem)(z * float(schedule(torch.tensor(1.0))[1]))
            return x / float(schedule(torch.tensor(0.0))[0]), given.spent / n, math.nan

        return draw

    def settings() -> dict[str, Any]:
        return {"steps": 100, "silent": True, "dtype": torch.float64}

    def covariance(p: Problem) -> Any:
        return linalg.covariance.IsotropicCovariance(torch.tensor(p.observation.sigma_y**2, dtype=torch.float64))

    def inverse(p: Problem) -> Callable[[Tensor], Tensor]:
        return p.observation.adjoint  # the rows are orthonormal

    def twist(p: Problem) -> Callable[[Tensor, Tensor], Tensor]:
        def log_p(x0: Tensor, s: Tensor) -> Tensor:
            variance = p.observation.sigma_y**2 + s**2 / (1 + s**2)
            left = p.y - p.observation(x0)
            return -(left**2 / variance + torch.log(variance)).sum(1, keepdim=True) / 2

        return log_p

    for count in (1, 3):

        def mmps(d: Any, p: Problem, count: int = count) -> Any:
            asked = guidance.MMPSDenoiser(d, p.y, p.observation, covariance(p), iterations=count)
            return sample.DDPMSampler(asked, **settings())

        yield f"azula MMPS, {count} iterations", row(mmps)
    yield "azula PGDM", row(lambda d, p: guidance.PGDMSampler(d, p.y, p.observation, inverse(p), eta=1.0, **settings()))
    for zeta in (1.0, 10.0, 30.0):

        def dps(d: Any, p: Problem, zeta: float = zeta) -> Any:
            return guidance.DPSSampler(d, p.y, p.observation, zeta=zeta, **settings())

        yield f"azula DPS, zeta={zeta:g}", row(dps)
    for lam in (1.0, 10.0):

        def diffpir(d: Any, p: Problem, lam: float = lam) -> Any:
            asked = guidance.DiffPIRDenoiser(d, p.y, p.observation, p.observation.sigma_y**2, lam, iterations=8)
            return sample.DDPMSampler(asked, **settings())

        yield f"azula DiffPIR, lambda={lam:g}", row(diffpir)
    yield "azula TDS", row(lambda d, p: guidance.TDSSampler(d, twist(p), **settings()))


def deepinv_rows() -> Iterator[tuple[str, Row]]:
    """Posterior samplers of deepinv on the same VP path, with 100 steps on our default grid."""
    if importlib.util.find_spec("deepinv") is None:
        print("deepinv is not installed")
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    from deepinv import physics, sampling

    times = torch.cat((LambdaUniform()(SDE, 100), torch.zeros(1)))
    path = sampling.VariancePreservingDiffusion

    class Given(torch.nn.Module):
        """The denoiser of x0 + sigma n."""

        def __init__(self, data: GaussianMixture) -> None:
            super().__init__()
            self.data, self.spent = data, 0

        def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
            self.spent += len(x)
            return self.data.posterior_mean(x, 1.0, torch.as_tensor(sigma).flatten()[:1].double()).to(x.dtype)

    def seen(problem: Problem) -> Any:
        """The projection by its singular values: its rows are orthonormal, and others make them a basis."""
        rows, count = problem.observation.matrix(), len(problem.y)
        basis = torch.cat((rows, torch.linalg.svd(rows).Vh[count:]))
        return physics.DecomposablePhysics(
            U=lambda z: z[:, :count],
            U_adjoint=lambda y: torch.nn.functional.pad(y, (0, len(basis) - count)),
            V=lambda z: z @ basis.to(z),
            V_adjoint=lambda x: x @ basis.T.to(x),
            mask=(torch.arange(len(basis)) < count).float()[None],
            noise_model=physics.GaussianNoise(problem.observation.sigma_y),
        )

    def row(make: Callable[[Given, tuple[int, int]], Any]) -> Row:
        def draw(problem: Problem, n: int) -> tuple[Tensor, float, float]:
            torch.manual_seed(0)
            given = Given(problem.data)
            y = problem.y.float().expand(n, -1).clone()
            x = make(given, (n, len(problem.data.means[0])))(y, seen(problem))
            return x.detach(), given.spent / n, math.nan

        return draw

    def guided(fidelity: Any) -> Row:
        def make(given: Given, shape: tuple[int, int]) -> Callable[[Tensor, Any], Tensor]:
            solver = sampling.AncestralSolver(timesteps=times)
            sampler = sampling.PosteriorDiffusion(fidelity, given, path(alpha=1.0), solver, minus_one_one=False)
            return lambda y, seen: sampler(y, seen, x_init=shape)

        return row(make)

    def restored(given: Given, _: tuple[int, int]) -> Any:
        levels = [SDE.at(float(t)) for t in times[:-1]]
        return sampling.DDRM(given, sigmas=[level.sigma / level.alpha for level in levels])

    for weight in (1.0, 10.0, 100.0):
        yield f"deepinv DPS, weight={weight:g}", guided(sampling.DPSDataFidelity(weight=weight))
    yield "deepinv DPS, annealed", guided(sampling.DPSDataFidelity(guidance="annealed"))
    yield "deepinv PiGDM", guided(sampling.PiGDMDataFidelity())
    yield "deepinv MMPS, 3 iterations", guided(sampling.MomentMatchingDataFidelity())
    yield "deepinv DDRM", row(restored)
