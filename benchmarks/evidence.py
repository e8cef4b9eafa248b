"""Posterior sampling: x0 times r against each step times r: `python benchmarks/evidence.py`.

A mixture of three Gaussians in the plane whose first value is seen with noise, so that the posterior is a known
mixture, and heartbeats of which some bits are known, so that the phase is. The exact models go through chains of 40,
200 and 1,000 harmonic levels. Printed for each rule: the Wasserstein distance of order 1 between n samples and n of
the exact posterior, its mean over 64 directions; the share of samples in the rarer mode of the posterior; and the share
of n / 10 heartbeats that are right. Intervals are Student's over the seeds, each with its own samples and directions.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor

from scoresde import Ancestral, DiscreteVPSDE, ExactModel, GaussianMixture, RectifiedSDE, Sampler
from scoresde.chains import BitEvidence, ExactBits, GaussianEvidence
from scoresde.results.interval import student
from scoresde.sampling import BitFlips, Discrete, MultipliedSteps, Solver

DATA = GaussianMixture(
    [0.2, 0.5, 0.3],
    [[-1.3, 0.9], [0.9, 1.0], [0.2, -1.2]],
    [[[0.09, 0.0], [0.0, 0.09]], [[0.08, 0.03], [0.03, 0.16]], [[0.09, -0.02], [-0.02, 0.06]]],
)
SEEN, NOISE = 0.5, 0.3  # the first value, and the standard deviation of the noise on it
BEATS = torch.stack([torch.where(torch.arange(20) % 5 == phase, 1.0, -1.0) for phase in range(5)])
STEPS: Mapping[str, Solver] = {
    "steps": MultipliedSteps(),
    "steps, rising": MultipliedSteps(schedule="rising"),
    "steps, power 1/2": MultipliedSteps(power=0.5),
}
LEVELS, KNOWN = (40, 200, 1000), (5, 10)


def posterior() -> GaussianMixture:
    """Of the mixture, by Bayes' rule for each of its Gaussians."""
    across = DATA.axes @ torch.diag_embed(DATA.variances) @ DATA.axes.mT
    total = across[:, 0, 0] + NOISE**2
    gain = across[:, :, 0] / total[:, None]
    weights = DATA.weights * torch.exp(-0.5 * (SEEN - DATA.means[:, 0]) ** 2 / total) / total.sqrt()
    means = DATA.means + gain * (SEEN - DATA.means[:, 0])[:, None]
    return GaussianMixture(weights, means, across - gain[:, :, None] * across[:, None, 0])


def distance(a: Tensor, b: Tensor, seed: int) -> float:
    directions = torch.randn(2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    directions = directions / directions.norm(dim=0)
    return float(((a @ directions).sort(0).values - (b @ directions).sort(0).values).abs().mean())


def mixtures(levels: int, n: int, seeds: int) -> dict[str, dict[str, list[float]]]:
    """Distance and share of each rule, and of samples of the posterior itself, for each seed."""
    exact, sde = posterior(), DiscreteVPSDE("harmonic", levels, 0.04 / levels)
    model = GaussianEvidence(ExactModel(DATA, sde), torch.tensor([SEEN, 0.0]), torch.tensor([NOISE, math.inf]), 1)
    found: dict[str, dict[str, list[float]]] = {}
    for name, solver in {"exact": None, "x0": Ancestral(), **STEPS}.items():
        found[name] = {"distance": [], "share": []}
        for seed in range(seeds):
            x = exact.sample(n, seed + 1000)
            if solver is not None:
                sampler = Sampler(solver, Discrete(), levels)
                x = sampler.sample(model, n=n, seed=seed, batch_size=n, dtype=torch.float64).x
            found[name]["distance"].append(distance(x, exact.sample(n, seed), seed))
            found[name]["share"].append(float((exact.component(x) == 2).double().mean()))
    return found


def heartbeats(levels: int, n: int, seeds: int) -> dict[str, dict[str, list[float]]]:
    """The share of sequences with the only phase that agrees with the first bits."""
    model, found = ExactBits(BEATS, RectifiedSDE()), dict[str, dict[str, list[float]]]()
    beats = BEATS.repeat(-(-n // 5), 1)[:n]
    for name, solver in {"x0": BitFlips(), "steps": MultipliedSteps(BitFlips())}.items():
        found[name] = {f"{known} bits": [] for known in KNOWN}
        for known in KNOWN:
            odds = torch.where(torch.arange(20) < known, beats * math.inf, 0.0)
            for seed in range(seeds):
                x = Sampler(solver, steps=levels).sample(BitEvidence(model, odds), n=n, seed=seed, batch_size=n).x
                found[name][f"{known} bits"].append(float((x == beats).all(1).double().mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--levels", type=int, nargs="*", default=LEVELS)
    parser.add_argument("-n", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file of the result")
    given, rows = parser.parse_args(), list[dict[str, Any]]()
    exact = posterior()
    share = float(exact.weights[2])
    print(f"posterior: weights {[round(w, 3) for w in exact.weights.tolist()]}")
    for levels in given.levels:
        for problem, results in (("mixture", mixtures), ("heartbeats", heartbeats)):
            count = given.n if problem == "mixture" else given.n // 10
            for rule, values in results(levels, count, given.seeds).items():
                means = {key: student(own) for key, own in values.items()}
                rows.append({"problem": problem, "levels": levels, "rule": rule, "n": count, **means})
                said = "   ".join(f"{key} {value}" for key, value in means.items())
                print(f"{problem:12} {levels:5} levels   {rule:20} {said}", flush=True)
    content = {"seen": SEEN, "noise": NOISE, "share": share, "seeds": given.seeds, "rows": rows}
    print(f"written to {save('evidence', content, given.out)}")


if __name__ == "__main__":
    main()
