"""How far methods of posterior sampling end from the exact posterior, in floors, at equal evaluations, and calibration.

    python benchmarks/inverse.py inverse_mixture --budget 200 --n 1000 --seeds 8

Each seed has a truth and a y. The floor of a seed is the mean sliced Wasserstein distance of eight pairs of exact
draws. It prints the geometric mean of distance / floor over seeds with its 95 % interval, and over observations the
share of values of the truth within the central 50 and 90 % of the samples, with the p-value of a test that its ranks
are uniform.
"""

import argparse
import math

import torch
from scipy import stats

from scoresde import Sampler, sde
from scoresde.comparison import Inverse, posteriors
from scoresde.comparison.entries import Defaults, candidates
from scoresde.metrics import sliced_wasserstein
from scoresde.named import named
from scoresde.results import student


def measured(problem: Inverse, entry: str, budget: int, n: int, seeds: int) -> str:
    """A line about one method."""
    (own,) = posteriors(entry, candidates("auto", Defaults()), n)
    prior, ratios, ranks = problem.model(sde("vp"), "cpu"), [], []
    for seed in range(seeds):
        exact = problem.posterior(seed)
        draws = [exact.sample(n, 1000 * seed + k).float() for k in range(16)]
        floor = sum(sliced_wasserstein(*draws[k : k + 2]) for k in range(0, 16, 2)) / 8
        model = problem.asked(prior, own.method, seed)
        x = Sampler(own.solver, steps=budget).sample(model, n=n, seed=seed, batch_size=n).x
        ratios.append(math.log(sum(sliced_wasserstein(x, other) for other in draws[:4]) / 4 / floor))
        ranks.append((x.flatten(1).double() < problem.seen(seed)[0].flatten()).double().mean(0))
    found, below = student(ratios), torch.stack(ranks)
    low, middle, high = (math.exp(found.mean + k * found.half) for k in (-1, 0, 1))
    inside = [student(((below - 0.5).abs() <= p / 200).double().mean(1).tolist()) for p in (50, 90)]
    counts = torch.histc(below[:, 0], 10, 0, 1)  # of one value, since those of an item depend on each other
    covered = ", ".join(f"{one.mean:.3f} +- {one.half:.3f}" for one in inside)
    return f"{entry}: {middle:.2f} ({low:.2f} to {high:.2f}), covered {covered}, p {stats.chisquare(counts).pvalue:.2g}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem")
    parser.add_argument("--methods", nargs="+", default=["exact", "twisted", "mmps", "pigdm", "dps"])
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    for method in given.methods:
        print(measured(named("problem", given.problem), method, given.budget, given.n, given.seeds), flush=True)
