"""The sliced Wasserstein distance between two clouds of any sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt
from scoresde.data.dataset import Dataset
from scoresde.metrics._events import Compared, flat_pair
from scoresde.results.metric import Metric

# Projected values held at a time, over all directions of a chunk: 32 MB in float64.
_CHUNK = 2**22


def wasserstein_1d(x: Tensor, y: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between numbers x (k, n) and y (k, m), row by row: (k,).

        W2² = integral over u in [0, 1] of (F_x^-1(u) - F_y^-1(u))²

    exactly: both quantile functions are steps, x's at i / n and y's at j / m.
    """
    n, m = x.shape[-1], y.shape[-1]
    x, y = x.sort(dim=-1).values, y.sort(dim=-1).values
    if n == m:
        return (x - y).double().square().mean(-1)
    # Steps in units of 1 / (n m) are integers, so that common ones meet without rounding.
    steps = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(1, m) * n]))
    widths, left = (steps.diff().double() / (n * m)).to(x.device), steps[:-1].to(x.device)
    squares: Tensor = (x[..., left // m] - y[..., left // n]).double().square() @ widths
    return squares


def sliced_wasserstein(x: Tensor, y: Tensor, projections: int = 500, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance between clouds x (n, *event) and y (m, *event), in their units.

        SW² = mean over unit vectors v of W2²(v·x, v·y)

    over `projections` random directions, which depend on the seed and the event size alone.

    Raises:
        ValueError: an empty cloud, or events of two shapes.

    Reference: N. Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, J. Math. Imaging
    Vis., 2015.
    """
    x, y = flat_pair(x, y)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(projections, x.shape[1], generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(x)
    chunks = directions.split(max(1, _CHUNK // (len(x) + len(y))))
    squares = torch.cat([wasserstein_1d(part @ x.T, part @ y.T) for part in chunks])
    return float(squares.mean().sqrt())


@dataclass(eq=False)
class SlicedWasserstein(Metric):
    """Sliced Wasserstein distance of samples to the held-out data.

    Args:
        projections: number of random directions.
        seed: which directions.

    Raises:
        InputError: projections < 1.
    """

    quantities = (
        Compared(
            "sliced_wasserstein", "sliced W", "sliced Wasserstein distance to real data", unit="model units", ratio=True
        ),
    )
    projections: Count = 500
    seed: NonNegativeInt = 0

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        return {"sliced_wasserstein": sliced_wasserstein(samples, dataset.heldout, self.projections, self.seed)}
