"""Errors and times of log densities against those that are known: `python benchmarks/likelihood.py`.

Points of exact mixtures at the cut-off, with the exact density at T, so that the solver alone is measured; the trace is
exact. Errors are means over the points of |log p - true| in nats, with intervals of 95 %. The default rule was chosen
on mixtures of other seeds in 8, 64 and 256 dimensions; the family `spread`, whose variances lie between 1e-3 and 1, was
left out. `again` is the share of items that were solved again with four times the steps. Times are CPU seconds of one
thread, the best of several in turn, for 64 points in 64 dimensions on a straight path; torchdiffeq solves the equation
of this package, with its Jacobian products, and flow_matching its own.
"""

import argparse
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from record import save
from torch import Tensor, nn

from scoresde import (
    SDE,
    AdaptiveRungeKutta,
    ExactModel,
    GaussianMixture,
    Likelihood,
    LogDensity,
    RectifiedSDE,
    Solver,
    TorchDiffEq,
    sde,
    solver,
)
from scoresde.comparison import Mixture
from scoresde.noise import Noise

BUDGETS = (20, 24, 30, 50, 100)
ENOUGH = 0.02  # nats
ONCE = Likelihood().solver  # without second solves
RULES: dict[str, Solver | None] = {
    "default": None,
    "default, once": ONCE,
    **{name: solver(name) for name in ("auto", "heun", "dopri5")},
}


class Problem(NamedTuple):
    name: str
    model: ExactModel
    x: Tensor
    true: Tensor
    prior: Callable[[Tensor], Tensor]


def spread(dimension: int, seed: int) -> GaussianMixture:
    """Four Gaussians with variances from 1e-3 to 1, even in their logarithm."""
    noise, size = Noise(seed), (4, dimension, dimension)
    axes, _ = torch.linalg.qr(noise.normal("axes", 0, size, dtype=torch.float64))
    variances = 10 ** (3 * noise.uniform("variances", 0, (4, dimension)) - 3)
    return GaussianMixture(
        [1.0] * 4, noise.normal("means", 0, size[:2], dtype=torch.float64) / 2, (axes * variances[:, None]) @ axes.mT
    )


def problem(name: str, data: GaussianMixture, path: SDE, n: int) -> Problem:
    (alpha, sigma, _), last = path.at(path.t_train), path.at(path.t_start)
    x = alpha * data.sample(n, seed=1)
    x = x + sigma * Noise(2).normal("cut-off", 0, x.shape, dtype=torch.float64)
    return Problem(
        name, ExactModel(data, path), x, data.log_prob(x, alpha, sigma), lambda y: data.log_prob(y, *last[:2])
    )


def problems(n: int) -> list[Problem]:
    paths = {"vp": sde("vp"), "edm": sde("edm"), "rectified": sde("rectified"), "ve": sde("ve", sigma_max=50.0)}
    found = [
        problem(f"mixture_64d, {name}", Mixture(64, 5, seed).distribution, path, n)
        for seed, (name, path) in enumerate(paths.items(), 10)
    ]
    found.append(problem("mixture in 16-D, vp", Mixture(16, 5, 10).distribution, paths["vp"], n))
    return [*found, problem("spread in 64-D, vp", spread(64, 0), paths["vp"], n)]


def mean(errors: Tensor) -> list[float]:
    """Mean of |errors|, half its 95 % interval, and the largest."""
    size = errors.abs()
    return [float(size.mean()), 1.96 * float(size.std()) / math.sqrt(len(size)), float(size.max())]


def solved(of: Problem, rule: Solver | None, steps: int) -> LogDensity:
    return Likelihood(rule, steps=steps)(of.model, of.x, prior=of.prior)


def accuracy(n: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    tight = AdaptiveRungeKutta(1e-8, 1e-8, pair="dopri5", variable="noise_share")
    for of in problems(n):
        for name, rule in {**RULES, "adaptive_dopri5, 1e-8": tight}.items():
            evaluations = 1 if rule is None else rule.evaluations
            for budget in BUDGETS if name.startswith("default") else (0,) if rule is tight else (30, 100):
                found = solved(of, rule, max(budget // evaluations, 3))
                error = mean(found.nats - of.true)
                again, (size, half, largest) = float(found.again.double().mean()), error
                rows.append({"problem": of.name, "rule": name, "nfe": found.nfe, "again": again, "error": error})
                print(
                    f"{of.name:24} {name:22} {found.nfe:6.1f}  {size:.1e} +- {half:.0e}, largest {largest:.1e}, "
                    f"again {again:.3f}",
                    flush=True,
                )
    return rows


class Velocity(nn.Module):
    """The velocity of flow_matching's path x_t = t x_1 + (1 - (1 - s) t) x_0, with s = 1e-5."""

    least = 1e-5

    def __init__(self, data: GaussianMixture) -> None:
        super().__init__()
        self.data, self.calls = data, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        alpha, sigma = float(t), 1 - (1 - self.least) * float(t)
        x1 = self.data.posterior_mean(x, alpha, sigma)
        return x1 - (1 - self.least) * (x - alpha * x1) / sigma


def flow_matching(data: GaussianMixture, x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """log p at the end of its path, and the evaluations."""
    from flow_matching.solver import ODESolver

    velocity, normal = Velocity(data), torch.distributions.Normal(x.new_zeros(()), x.new_ones(()))
    _, log_p = ODESolver(velocity).compute_likelihood(
        x, lambda y: normal.log_prob(y).sum(1), None, "dopri5", tolerance, tolerance, x.new_tensor([1.0, 0.0]),
        exact_divergence=True,
    )  # fmt: skip
    return log_p, velocity.calls


def peers(n: int) -> dict[str, list[Callable[[], tuple[Tensor, float]]]]:
    """For each way, its settings from cheap to dear: each returns errors and evaluations."""
    data, path = Mixture(64, 5, 14).distribution, RectifiedSDE()
    of, clean = problem("", data, path, n), data.sample(n, seed=1)
    start = clean + Velocity.least * Noise(2).normal("cut-off", 0, clean.shape, dtype=torch.float64)
    true = data.log_prob(start, 1.0, Velocity.least)

    def ours(rule: Solver | None, steps: int) -> tuple[Tensor, float]:
        found = solved(of, rule, steps)
        return found.nats - of.true, found.nfe

    def theirs(tolerance: float) -> tuple[Tensor, float]:
        log_p, calls = flow_matching(data, start, tolerance)
        return log_p - true, calls

    tolerances = [10**-k for k in (4, 4.25, 4.5, 4.75, 5, 5.5, 6)]
    ways: dict[str, list[Callable[[], tuple[Tensor, float]]]] = {
        "scoresde": [lambda k=k: ours(None, k) for k in range(22, 31)],
        "torchdiffeq dopri5": [lambda t=t: ours(TorchDiffEq(rtol=t, atol=t), 1) for t in tolerances],
    }
    if importlib.util.find_spec("flow_matching") is not None:
        ways["flow_matching dopri5"] = [lambda t=t: theirs(t) for t in tolerances]
    return ways


def times(n: int, repeats: int) -> list[dict[str, object]]:
    """The cheapest setting of each way with a mean error of at most `ENOUGH`, and its CPU time."""
    chosen: dict[str, Callable[[], tuple[Tensor, float]]] = {}
    rows: dict[str, dict[str, object]] = {}
    for name, settings in peers(n).items():
        for setting in settings:
            errors, nfe = setting()
            if (error := mean(errors))[0] <= ENOUGH:
                chosen[name], rows[name] = setting, {"way": name, "nfe": nfe, "error": error}
                break
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(repeats):
        for name, setting in chosen.items():
            began = time.process_time()
            setting()
            seconds[name].append(time.process_time() - began)
    for name, row in rows.items():
        row |= {"seconds": min(seconds[name]), "ours": min(seconds["scoresde"]) / min(seconds[name])}
        print(row, flush=True)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=16, help="points of each problem")
    parser.add_argument("--points", type=int, default=64, help="points of the timed problem")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, timed = accuracy(arguments.n), times(arguments.points, arguments.repeats)
    content = {"n": arguments.n, "points": arguments.points, "accuracy": rows, "times": timed}
    print(f"written to {save('likelihood', content, arguments.out)}")


if __name__ == "__main__":
    main()
