"""What every item shows by itself, such as its levels or its spectrum: are the means of samples those of real items?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scoresde.data.dataset import Dataset
from scoresde.data.transform import Transform
from scoresde.metrics._events import Compared
from scoresde.results.metric import Metric, Needs

_MOST_LEVELS = 1024  # of a histogram; more levels share its bins
_CHANCE = "1 on average for a perfect sampler, whatever n is"
Profile = Callable[[Tensor, Transform], Tensor]  # of items (n, *event) in model units: (n, K)


def difference(x: Tensor, y: Tensor) -> float:
    """The mean square of the standardised difference of the means of clouds x (n, K) and y (m, K).

        mean over k of (E x_k - E y_k)² / (v_k (1 / n + 1 / m)),   v_k the variance about the mean of each cloud

    It is 1 on average between equal distributions. Coordinates that are constant over both are left out; of two
    different constants the difference is infinite.

    Raises:
        ValueError: a cloud of fewer than two points.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"a variance needs two points at least: {n} and {m}")
    variance = (n * x.var(0, correction=0) + m * y.var(0, correction=0)) / (n + m - 2) * (1 / n + 1 / m)
    gap = (x.mean(0) - y.mean(0)).square()
    varies = (variance > 0) | (gap > 0)
    return float((gap / variance)[varies].mean()) if bool(varies.any()) else 0.0


def levels(items: Tensor, transform: Transform) -> Tensor:
    """The share of each level among the values of an item, as `Transform.finish` rounds them: (n, levels).

    Raises:
        ValueError: the data have no levels.
    """
    if transform.levels is None or transform.low is None:
        raise ValueError("these data have no levels")
    bins = min(transform.levels, _MOST_LEVELS)
    steps = (transform.finish(items).astype(np.float64) - transform.low).astype(np.int64) * bins // transform.levels
    flat = torch.from_numpy(steps).flatten(1)
    ones = torch.ones(flat.shape, dtype=torch.float32)
    return torch.zeros(len(flat), bins).scatter_add_(1, flat, ones) / flat.shape[1]


def moments(items: Tensor, transform: Transform) -> Tensor:
    """Each value of an item and its square: (n, 2 D)."""
    flat = items.flatten(1)
    return torch.cat([flat, flat.square()], dim=1)


def spectrum(items: Tensor, transform: Transform) -> Tensor:
    """The logarithm of the power at each distance from frequency zero, of each channel: (n, channels K).

    Of images (channels, height, width), series (channels, length) and volumes.

    Raises:
        ValueError: items without places.
    """
    if items.ndim < 3:
        raise ValueError("items of one axis have no spectrum")
    sides = items.shape[2:]
    power = torch.fft.fftn(items.double(), dim=tuple(range(2, items.ndim))).abs().square()
    grids = torch.meshgrid(*(torch.fft.fftfreq(side, dtype=torch.float64) for side in sides), indexing="ij")
    rings = (torch.stack(grids).square().sum(0).sqrt() * max(sides)).round().long().flatten()
    count = torch.bincount(rings)
    rows = power.flatten(2)
    sums = torch.zeros(*rows.shape[:2], len(count), dtype=torch.float64).index_add_(2, rings, rows)
    # what rounding of constant items leaves must not differ from zero
    return (sums / count + 1e-9).log()[:, :, count > 0].flatten(1)


@dataclass(eq=False)
class Profiles(Metric):
    """Histogram of levels, moments of each value, and spectrum of samples against the held-out data, by `difference`.

    They see what features of a network are blind to: rounding, noise below one level, blur, contrast, a shift.
    Data that are not quantised have no levels, and items of one axis no spectrum.

    Args:
        levels: measure the histogram of levels.
        moments: measure the values and their squares.
        spectrum: measure the spectrum.
    """

    quantities = (
        Compared("levels", words="difference of the histograms of levels", note=_CHANCE),
        Compared("moments", words="difference of each value and its square", note=_CHANCE),
        Compared("spectrum", words="difference of the logarithms of the spectra", note=_CHANCE),
    )
    levels: bool = True
    moments: bool = True
    spectrum: bool = True

    def needs(self) -> Needs:
        return Needs(2, 2, 2)

    def __call__(self, samples: Tensor, dataset: Dataset) -> dict[str, float]:
        known: dict[str, tuple[bool, Profile]] = {
            "levels": (self.levels and dataset.transform.levels is not None, levels),
            "moments": (self.moments, moments),
            "spectrum": (self.spectrum and samples.ndim > 2, spectrum),
        }
        found = {}
        for key, (wanted, profile) in known.items():
            if wanted:
                own, real = (profile(items, dataset.transform) for items in (samples.cpu(), dataset.heldout))
                found[key] = difference(own, real)
        return found
