"""How far posterior samples are from the exact posterior: `python benchmarks/posterior.py --problem mixture_8d`.

Random Gaussian mixtures (`scoresde.comparison.problems.Mixture`, seeds 0, 1, ...) under random orthonormal projections,
with one observation each, so that the posterior is a mixture in closed form. The distance is the sliced Wasserstein
distance of n samples to n exact ones, in floors: the geometric mean of four distances between exact samples. Rows are
methods at about 100 network calls, on exact scores of the VP path, and those of azula (pip install --no-deps azula
einops). Means are geometric, over problems, with 95 % intervals by Student's t on logarithms. deepinv needs torchvision
and is left out.
"""

import argparse
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor

from scoresde import ExactModel, GaussianMixture, Posterior, Sampler
from scoresde import sde as sde_named
from scoresde import solver as solver_named
from scoresde.comparison.problems import Mixture
from scoresde.metrics.sliced import sliced_wasserstein
from scoresde.noise import Noise
from scoresde.observation import Projection
from scoresde.posterior import DAPS, DPS, MMPS, DiffPIR, Gibbs, Method, PiGDM, Population, RePaint, Replace
from scoresde.results.interval import student

SIZES = {"mixture_2d": (2, 8, 1), "mixture_8d": (8, 6, 3), "mixture_64d": (64, 10, 16)}  # dimension, components, rows
NOISES = (0.05, 0.3)
SDE = sde_named("vp")


class Problem:
    """A mixture, one observation of an item that is drawn from it, and exact samples of its posterior.

    Attributes:
        data, observation, y, exact: what was observed, and the posterior.
        floor: distance between two sets of exact samples.
    """

    def __init__(self, size: tuple[int, int, int], seed: int, sigma_y: float, n: int) -> None:
        dimension, components, rows = size
        self.data: GaussianMixture = Mixture(dimension, components, seed).distribution
        self.observation = Projection((dimension,), rows=rows, seed=seed, sigma_y=sigma_y)
        self.y = self.observation.measure(self.data.sample(1, seed=100 + seed), Noise(seed))[0]
        self.exact = self.data.posterior(self.observation.matrix(), self.y, sigma_y)
        a, self.real, c, d = (self.exact.sample(n, seed=k) for k in range(1, 5))
        pairs = ((a, self.real), (c, d), (a, d), (c, self.real))
        self.floor = math.exp(sum(math.log(sliced_wasserstein(x, y)) for x, y in pairs) / len(pairs))

    def distance(self, x: Tensor) -> float:
        """Of samples (n, D) to the posterior, in floors."""
        return sliced_wasserstein(x.double(), self.real) / self.floor


Row = Callable[[Problem, int], tuple[Tensor, float, float]]  # samples, calls, products


def ours(method: Method | None, rule: str, steps: int, **settings: Any) -> Row:
    """A method with a solver; None for the exact conditional denoiser."""

    def draw(problem: Problem, n: int) -> tuple[Tensor, float, float]:
        prior = ExactModel(problem.data, SDE)
        asked = Posterior(prior, problem.observation, problem.y, method) if method else ExactModel(problem.exact, SDE)
        found = Sampler(solver_named(rule, **settings), steps=steps).sample(
            asked, n=n, batch_size=n, dtype=torch.float64
        )
        return found.x, found.nfe, found.products

    return draw


def own_rows() -> Iterator[tuple[str, Row]]:
    yield "exact denoiser", ours(None, "ancestral", 100)
    yield "population", ours(Population(), "dpmpp_2m", 10, eta=1.0)
    yield "population, 200 calls", ours(Population(inner=9), "dpmpp_2m", 20, eta=1.0)
    yield "mmps", ours(MMPS(), "ancestral", 100)
    yield "mmps, auto", ours(MMPS(), "auto", 100)
    yield "pigdm", ours(PiGDM(), "ancestral", 100)
    yield "pigdm, sigma_data=0.25", ours(PiGDM(sigma_data=0.25), "ancestral", 100)
    yield "diffpir", ours(DiffPIR(), "ancestral", 100)
    for zeta in (0.1, 0.3, 1.0):
        yield f"dps, zeta={zeta:g}", ours(DPS(zeta), "ancestral", 100)
    yield "gibbs", ours(Gibbs(), "ancestral", 20)
    yield "daps", ours(DAPS(), "dpmpp_2m", 20)
    yield "replace", ours(Replace(), "ancestral", 100)
    yield "repaint", ours(RePaint(repeats=5, jump=5), "ancestral", 20)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=SIZES, default="mixture_8d")
    parser.add_argument("--problems", type=int, default=5, help="random mixtures, with one observation each")
    parser.add_argument("--n", type=int, default=2000, help="samples")
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    problems = {
        sigma: [Problem(SIZES[asked.problem], seed, sigma, asked.n) for seed in range(asked.problems)]
        for sigma in NOISES
    }
    print(f"{asked.problem}, {asked.problems} problems, n = {asked.n}: distance in floors at sigma_y = {NOISES}")
    found = []
    for name, draw in itertools.chain(own_rows(), azula_rows()):
        if not name.startswith(asked.only):
            continue
        cells, spent = [], (0.0, 0.0)
        for sigma in NOISES:
            drawn = [draw(problem, asked.n) for problem in problems[sigma]]
            logs = [math.log(p.distance(x)) for p, (x, *_) in zip(problems[sigma], drawn, strict=True)]
            mean, half = (student(logs) if len(logs) > 1 else (logs[0], math.nan))[:2]
            cells.append((math.exp(mean), math.exp(mean - half), math.exp(mean + half)))
            spent = drawn[0][1:]
        shown = "   ".join(f"{mean:7.2f} ({low:6.2f} to {high:6.2f})" for mean, low, high in cells)
        print(f"{name:28s} {spent[0]:4.0f} calls {spent[1]:4.0f} products   {shown}", flush=True)
        found.append({"name": name, "calls": spent[0], "products": spent[1], "floors": cells})
    save("posterior", {"problem": asked.problem, "problems": asked.problems, "n": asked.n, "rows": found}, asked.out)


if __name__ == "__main__":
    main()
