"""How near a trained variational bound comes to the best one on a mixture in the plane.

    python benchmarks/bound.py [--steps 4000] [--levels 50]

The chain of 2015 with its rates held, whose mean and variance are learned, beside the exact denoiser with the exact
variance of x0 given x, which is the best of all chains with these levels and diagonal variances. Nats an item, on one
test set, in groups of 100 with the same noise for every model, of which the intervals (95 %) are.
"""

import argparse
import time

import record
import torch

from scoresde import DiscreteVPSDE, ExactModel, GaussianMixture
from scoresde.chains import GaussianChain
from scoresde.loss import Batch, VariationalBound
from scoresde.nets import ResidualMLP
from scoresde.noise import Noise
from scoresde.training.ema import Ema

MIXTURE = GaussianMixture(
    [0.5, 0.3, 0.2],
    [[-1.0, 0.4], [1.0, 0.8], [0.4, -1.2]],
    [[[0.06, 0.04], [0.04, 0.06]], [[0.05, 0.0], [0.0, 0.15]], [[0.2, -0.05], [-0.05, 0.05]]],
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--levels", type=int, default=50)
    parser.add_argument("--items", type=int, default=4000)
    args = parser.parse_args()
    sde = DiscreteVPSDE("harmonic", args.levels, 0.002)
    torch.manual_seed(0)
    model = GaussianChain(ResidualMLP((2,), width=128, outputs=2), sde, learn_rates=False)
    loss, average = VariationalBound(), Ema(model, 0.999)
    optimizer = torch.optim.Adam(model.net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    begin = time.process_time()
    for k in range(args.steps):
        x0, noise = MIXTURE.sample(512, 1000 + k).float(), Noise(k)
        u = (torch.arange(512) + noise.uniform("u", 0, 512)) / 512
        loss(model, Batch(x0, u, noise.normal("eps", 0, x0.shape))).loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        average.update(model)
    seconds = time.process_time() - begin
    data = MIXTURE.sample(args.items, 1)
    entropy = float(-MIXTURE.log_prob(data).mean())
    models = {
        "exact": (loss, ExactModel(MIXTURE, sde, variance=True)),
        "trained": (loss, average.module),
        "exact, beta": (VariationalBound(variance="upper"), ExactModel(MIXTURE, sde)),
        "exact, beta-tilde": (loss, ExactModel(MIXTURE, sde)),
    }
    groups = list(enumerate(data.float().split(100)))
    rows = {
        name: torch.tensor([rule.evaluate(one, group, seed=k).value for k, group in groups])
        for name, (rule, one) in models.items()
    }
    print(f"{args.levels} levels, {args.steps} steps in {seconds:.0f} s of the processor, {args.items} test items")
    print(f"{'-log p(x0)':20}{entropy:9.4f}")
    table = {}
    for name, values in rows.items():
        (bound, error), (over, doubt) = (_with_interval(v) for v in (values, values - rows["exact"]))
        print(f"{name:20}{bound:9.4f} ± {error:.4f}    over exact {over:+.4f} ± {doubt:.4f}")
        table[name] = {"bound": bound, "interval": error, "over_exact": over, "interval_over_exact": doubt}
    record.save("bound", {"settings": vars(args), "cpu_seconds": seconds, "entropy": entropy, "nats": table})


def _with_interval(values: torch.Tensor) -> tuple[float, float]:
    return float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5


if __name__ == "__main__":
    main()
