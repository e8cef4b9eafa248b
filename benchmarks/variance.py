"""What spreading the noise levels of a batch buys: `python benchmarks/variance.py`.

Variance of the mean loss of a batch, and of its gradient, at the weights of a network after a short training, over
batches of equal size, so of equal compute, whose times are drawn in four ways: independently, stratified, by importance
(from the history of the losses), and both. All four see the same data, noise and uniform numbers. The ratios are to
independent times, with 95 % intervals by the bootstrap over batches; a ratio of 0.5 is worth a batch of twice the size.
The gradient noise is the root mean square over the weights of the standard deviation of the gradient. The four means
estimate one number. Results go to benchmarks/results/.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from record import save
from torch import Tensor

from scoresde import VPSDE, ScoreModel
from scoresde.data import Digits, Moons
from scoresde.loss import Batch, DenoisingScoreMatching
from scoresde.loss.levels import LossHistory, stratified
from scoresde.nets import ResidualMLP, UNet
from scoresde.noise import Noise
from scoresde.training.batches import Batches

BATCH = 128
WARM = 128  # batches, forward only, that fill the history
LOSSES = {
    "edm": DenoisingScoreMatching("edm", "log_normal"),
    "noise": DenoisingScoreMatching("noise"),
    "likelihood": DenoisingScoreMatching("likelihood"),
}
METHODS = {  # stratified, importance
    "independent": (False, False),
    "stratified": (True, False),
    "importance": (False, True),
    "both": (True, True),
}


class Problem:
    """A network after a short training, and its data."""

    def __init__(self, name: str, steps: int) -> None:
        data = (Digits() if name == "digits" else Moons()).load()
        torch.manual_seed(0)
        net = UNet(data.event_shape) if name == "digits" else ResidualMLP(data.event_shape)
        self.model = ScoreModel(net, VPSDE(), "edm", data.sigma_data)
        self.batches, self.event = Batches(data.train, 0, torch.device("cpu")), data.event_shape
        self.parameters = list(self.model.parameters())
        optimizer = torch.optim.Adam(self.parameters, lr=2e-3, fused=True)
        for k in range(steps):
            self.losses(LOSSES["edm"], stratified(self.uniform("train", k)), "train", k).mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def uniform(self, purpose: str, k: int) -> Tensor:
        return Noise(0).uniform(purpose, k, BATCH)

    def losses(self, loss: DenoisingScoreMatching, u: Tensor, purpose: str, k: int) -> Tensor:
        """Losses (B,) of batch k at the numbers u."""
        x0, eps = self.batches.at(k * BATCH, BATCH), Noise(1).normal(purpose, k, (BATCH, *self.event))
        return loss(self.model, Batch(x0, u, eps)).loss

    def history(self, loss: DenoisingScoreMatching) -> LossHistory:
        history = LossHistory()
        with torch.no_grad():
            for k in range(WARM):
                u, _ = history.draw(stratified(self.uniform("warm", k)))
                history.update(u, self.losses(loss, u, "warm", k))
        return history

    def draws(self, name: str, method: str, history: LossHistory, count: int) -> tuple[Tensor, Tensor]:
        """Mean losses (M,) of batches, and the products (M, M) of their gradients with each other."""
        spread, importance = METHODS[method]
        values, gradients = [], []
        for k in range(count):
            v = self.uniform("measure", k)
            v = stratified(v) if spread else v
            u, weight = history.draw(v) if importance else (v, torch.ones_like(v))
            mean = (weight.float() * self.losses(LOSSES[name], u, "measure", k)).mean()
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(mean, self.parameters)]))
            values.append(mean.detach())
        matrix = torch.stack(gradients)
        matrix -= matrix.mean(0)  # moves no variance, and keeps rounding small
        return torch.stack(values).double(), (matrix @ matrix.T).double()


def total_variance(products: Tensor, chosen: Tensor) -> Tensor:
    """Trace of the covariance of vectors, from their scalar products, for each row of chosen indices (R, M)."""
    rows = products[chosen.unsqueeze(2), chosen.unsqueeze(1)]  # (R, M, M)
    n = chosen.shape[1]
    return (rows.diagonal(dim1=1, dim2=2).mean(1) - rows.mean((1, 2))) * n / (n - 1)


def ratio(values: Tensor, base: Tensor) -> list[float]:
    """Estimate (row 0) and 95 % interval (the other rows, by bootstrap)."""
    ratios = values / base
    return [ratios[0].item(), *torch.quantile(ratios[1:], torch.tensor([0.025, 0.975], dtype=ratios.dtype)).tolist()]


def measure(problem: Problem, network: str, name: str, count: int) -> list[dict[str, Any]]:
    """A row for each way to draw times."""
    history = problem.history(LOSSES[name])
    found = {method: problem.draws(name, method, history, count) for method in METHODS}
    again = torch.randint(count, (1000, count), generator=torch.Generator().manual_seed(0))
    chosen = torch.cat([torch.arange(count)[None], again])
    noise = {m: torch.cat([total_variance(p, part) for part in chosen.split(50)]) for m, (_, p) in found.items()}
    variance = {m: values[chosen].var(1) for m, (values, _) in found.items()}
    weights = sum(p.numel() for p in problem.parameters)
    rows = []
    for method, (values, _) in found.items():
        rows.append(
            {
                "network": network,
                "loss": name,
                "times": method,
                "mean": values.mean().item(),
                "mean_error": (variance[method][0] / count).sqrt().item(),
                "loss_std": variance[method][0].sqrt().item(),
                "loss_variance_ratio": ratio(variance[method], variance["independent"]),
                "gradient_noise": (noise[method][0] / weights).sqrt().item(),
                "gradient_variance_ratio": ratio(noise[method], noise["independent"]),
                "batches": count,
                "batch": BATCH,
            }
        )
    return rows


def cost(repeats: int = 300) -> float:
    """Seconds that a step spends on drawing levels by importance and on the history."""
    history, v, loss = LossHistory(), Noise(0).uniform("v", 0, BATCH), torch.ones(BATCH)
    for k in range(repeats + 20):
        if k == 20:
            start = time.thread_time()
        u, _ = history.draw(v)
        history.update(u, loss)
    return (time.thread_time() - start) / repeats


def show(row: dict[str, Any]) -> None:
    def interval(key: str) -> str:
        return "{:6.3f} ({:.3f} to {:.3f})".format(*row[key])

    what = f"{row['network']:7} {row['loss']:10} {row['times']:11} {row['mean']:8.4g} +- {row['mean_error']:7.1e}"
    print(what, f"{row['loss_std']:9.2e} ", interval("loss_variance_ratio"), end="  ")
    print(f"{row['gradient_noise']:9.2e} ", interval("gradient_variance_ratio"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batches", type=int, default=100, help="batches for each row (four times as many in 2-D)")
    parser.add_argument("--quick", action="store_true", help="the 2-D problem alone, trained shortly")
    parser.add_argument("--out", type=Path, help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    cases = [("moons", 200, 1)] if arguments.quick else [("digits", 300, 1), ("moons", 1500, 4)]
    print("network loss       times           mean    error   loss std  ratio of variances       ", end="")
    print("gradient noise  ratio of variances")
    rows: list[dict[str, Any]] = []
    for (network, steps, factor), name in itertools.product(cases, LOSSES):
        if name == next(iter(LOSSES)):
            problem = Problem(network, steps)
        new = measure(problem, network, name, factor * arguments.batches)
        rows += new
        for row in new:
            show(row)
    seconds = cost()
    print(f"drawing by importance and keeping the history costs {1e6 * seconds:.0f} microseconds a step")
    content = {"rows": rows, "importance_seconds_per_step": seconds, "seconds": time.perf_counter() - begin}
    print(f"written to {save('variance', content, arguments.out)}")


if __name__ == "__main__":
    main()
