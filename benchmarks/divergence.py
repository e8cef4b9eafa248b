"""Errors of divergence estimates at equal cost, on mixtures in 64-D and a network: `python benchmarks/divergence.py`.

The log density of items along one path of 30 evaluations (VP, third-order Adams-Bashforth on the velocity, equal
steps in lambda), less the one with the exact trace on the same path. An estimate that takes m products at each
evaluation on average is compared with the mean of m fixed Rademacher directions, whose error is that of one over
sqrt(m). The ratios are of root mean squares over items and draws, with 95 % intervals from resampled items. `shared`
measures where directions are needed on 32 other items first. Coverage is the share of 95 % intervals that hold the
exact value: over all, and the lowest and highest of `--points` items over `--draws` draws.
"""

import argparse
from pathlib import Path

import torch
from record import save
from torch import Tensor

from scoresde import ExactModel, GaussianMixture, Likelihood, ScoreModel, grid, sde, solver
from scoresde.comparison.problems import Mixture
from scoresde.data import Digits
from scoresde.divergence import Divergence, ExactTrace, Hutchinson, XTrace
from scoresde.likelihood import allocated
from scoresde.loss import Batch, DenoisingScoreMatching
from scoresde.model import Model
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise

D, STEPS, FIXED = 64, 30, 16


def _random(components: int, apart: float, deviations: Tensor) -> GaussianMixture:
    """Equal weights, means N(0, apart^2), and covariances of these deviations along random axes."""
    noise = Noise(5)
    axes, _ = torch.linalg.qr(noise.normal("axes", 0, (components, D, D), dtype=torch.float64))
    means = apart * noise.normal("means", 0, (components, D), dtype=torch.float64)
    return GaussianMixture([1.0] * components, means, (axes * deviations.double().square()) @ axes.mT)


def _mixture(name: str) -> GaussianMixture:
    spread = torch.linspace(0, 1, D)
    return {
        "apart": lambda: Mixture(D, 5).distribution,
        "decay": lambda: _random(3, 0.3, 1.5 * torch.arange(1, D + 1) ** -0.75),
        "manifold": lambda: _random(8, 0.5, torch.where(torch.arange(D) < 8, 0.5, 0.03)),
        "overlap": lambda: _random(20, 0.25, 0.3 + 0.4 * spread),
    }[name]()


def _trained(steps: int) -> tuple[Model, Tensor]:
    """A small network that has learned digits of 8 x 8 pixels, and held-out items."""
    data = Digits().load()
    x, heldout = data.train.flatten(1), data.heldout.flatten(1)
    torch.manual_seed(0)
    model = ScoreModel(ResidualMLP((D,)), sde("vp"), "edm", float(x.std()))
    loss, noise, optimizer = DenoisingScoreMatching(), Noise(0), torch.optim.Adam(model.parameters(), 2e-3)
    for k in range(steps):
        rows = (noise.uniform("rows", k, 128) * len(x)).long()
        batch = Batch(x[rows], noise.uniform("u", k, 128), noise.normal("eps", k, (128, D)))
        optimizer.zero_grad()
        loss(model, batch).loss.mean().backward()
        optimizer.step()
    return model.eval(), heldout


FAMILIES = ("apart", "decay", "manifold", "overlap")
ESTIMATES: dict[str, tuple[Divergence, bool]] = {
    **{f"fixed signs {m}": (Hutchinson(m), False) for m in (4, 16)},
    **{f"signs {m}": (Hutchinson(m, fresh=True), False) for m in (1, 4, 16)},
    **{f"gaussian {m}": (Hutchinson(m, "gaussian", fresh=True), False) for m in (4,)},
    **{f"orthogonal {m}": (Hutchinson(m, "orthogonal", fresh=True, groups=1), False) for m in (4, 16)},
    **{f"XTrace {m}": (XTrace(m, fresh=True), False) for m in (2, 8)},
    **{f"hadamard {m}": (Hutchinson(m, "hadamard", fresh=True, groups=1), False) for m in (1, 2, 4, 8, 16)},
    **{f"signs {m} shared": (Hutchinson(m, fresh=True, groups=1), True) for m in (4, 16)},
    **{f"hadamard {m} shared": (Hutchinson(m, "hadamard", fresh=True, groups=1), True) for m in (2, 4, 8, 16)},
    "hadamard 16, 2 groups": (Hutchinson(16, "hadamard", fresh=True, groups=2), False),
    "hadamard 16 shared, 2 groups": (Hutchinson(16, "hadamard", fresh=True, groups=2), True),
    "hadamard 16 shared, 4 groups": (Hutchinson(16, "hadamard", fresh=True, groups=4), True),
    "hadamard 24 shared, 3 groups": (Hutchinson(24, "hadamard", fresh=True, groups=3), True),
    "hadamard 32 shared, 4 groups": (Hutchinson(32, "hadamard", fresh=True, groups=4), True),
}
COVERED = ("fixed signs 4", "signs 4", *(f"hadamard {m} shared, {k} groups" for m, k in ((16, 2), (24, 3), (16, 4))))


def _rule(divergence: Divergence, default: bool) -> Likelihood:
    if default:
        return Likelihood(divergence=divergence, steps=STEPS, again=None)
    return Likelihood(solver("velocity_3"), grid("lambda"), divergence, STEPS)


def _ratio(errors: Tensor, fixed: Tensor) -> tuple[float, float, float]:
    """The ratio of root mean squares of (n,) squares, with the ends of its interval."""
    chosen = (Noise(1).uniform("bootstrap", 0, (400, len(errors))) * len(errors)).long()
    ratios = (errors[chosen].mean(1) / fixed[chosen].mean(1)).sqrt()
    low, high = ratios.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float((errors.mean() / fixed.mean()).sqrt()), low, high


Row = dict[str, object]


def _errors(family: str, model: Model, x: Tensor, others: Tensor, arguments: argparse.Namespace) -> list[Row]:
    exact = _rule(ExactTrace(), arguments.default)(model, x)
    fixed = _rule(Hutchinson(FIXED), arguments.default)  # each column is one direction
    one = FIXED * torch.stack([(fixed(model, x, seed=s).nats - exact.nats).square() for s in range(100, 108)]).mean(0)
    print(f"{family}: one fixed direction has an error of {float(one.mean().sqrt()):.2f} nats", flush=True)
    found: list[Row] = []
    for name, (divergence, pilot) in ESTIMATES.items():
        rule = _rule(divergence, arguments.default)
        rule = allocated(rule, model, others) if pilot else rule
        runs = [rule(model, x, seed=s) for s in range(arguments.repeats)]
        squares = torch.stack([(run.nats - exact.nats).square() for run in runs]).mean(0)
        m = runs[0].products / STEPS
        ratio, low, high = _ratio(squares, one / m)
        row: Row = {"family": family, "estimate": name, "evaluations": runs[0].nfe, "m": m}
        row |= {"rms": float(squares.mean().sqrt()), "ratio": ratio, "low": low, "high": high}
        said = f"  {name:30} {runs[0].nfe:.0f} evaluations + {runs[0].products:4.0f} products, "
        said += f"{row['rms']:.3f} nats, ratio {ratio:.3f} ({low:.3f} to {high:.3f})"
        if name in COVERED:
            few = x[: arguments.points]
            many = rule(model, few.repeat(arguments.draws, 1), seed=99, batch_size=1000)
            off = (many.nats.reshape(-1, len(few)) - exact.nats[: len(few)]).abs()
            inside = (off <= many.half.reshape(off.shape)).double()
            row["covered"], each = float(inside.mean()), inside.mean(0)
            row["covered_each"] = each.tolist()
            said += f", covered {row['covered']:.3f} ({each.min():.3f} to {each.max():.3f})"
        print(said, flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--families", nargs="*", default=[*FAMILIES, "network"])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--train", type=int, default=3000, help="steps of the network")
    parser.add_argument("--default", action="store_true", help="the default rule and grid of Likelihood")
    parser.add_argument("--out", type=Path, help="file of the result")
    arguments, rows = parser.parse_args(), list[Row]()
    for family in arguments.families:
        if family == "network":
            model, items = _trained(arguments.train)
        else:
            data = _mixture(family)
            model, items = ExactModel(data, sde("vp")), data.sample(arguments.n + 32)
        level, eps = model.sde.at(model.sde.t_train), Noise(9).normal("start", 0, items.shape, dtype=torch.float64)
        items = level[0] * items + level[1] * eps
        with torch.no_grad():
            rows += _errors(family, model, items[32 : arguments.n + 32], items[:32], arguments)
    content = {"n": arguments.n, "repeats": arguments.repeats, "steps": STEPS, "dimension": D, "rows": rows}
    content |= {"points": arguments.points, "draws": arguments.draws}
    print(f"written to {save('divergence', content, arguments.out)}")


if __name__ == "__main__":
    main()
