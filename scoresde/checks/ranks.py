"""Ranks of a truth among samples, and whether they are uniform."""

import torch
from torch import Tensor

from scoresde.errors import require

_LEAST = 1e-12  # variance of scores: those of equal ranks have none


def ranked(samples: Tensor, truth: Tensor, uniforms: Tensor) -> Tensor:
    """Ranks of truths among their samples, as numbers in [0, 1] that are uniform if a truth is like its samples.

        u = (number of samples below the truth + v (1 + number equal to it)) / (L + 1),   v uniform in [0, 1)

    v makes u uniform for any L and whatever values are equal.

    Args:
        samples: (n, L, *values).
        truth: (n, *values).
        uniforms: v (n, *values).

    S. Talts et al. 2018 (arXiv 1804.06788), section 4.1.
    """
    below, equal = ((samples < truth[:, None]).sum(1), (samples == truth[:, None]).sum(1))
    return (below + uniforms * (1 + equal)) / (samples.shape[1] + 1)


def uniform(u: Tensor) -> float:
    """The p-value of ranks u (n, ...) in [0, 1] of n independent items: whether all of them are uniform.

        f_1 = sqrt(3) (2 u - 1),   f_2 = sqrt(5) (6 u^2 - 6 u + 1)

    have mean 0, variance 1 and no correlation if u is uniform; the first notices a shift, the second a posterior that
    is too narrow or too wide. Of one rank an item n |mean f|^2 is chi-squared with 2 degrees of freedom (Neyman's
    smooth test). Ranks of several values of an item depend on each other, so their f are averaged within the item, and
    Hotelling's T^2 tests the mean over items.

    Of one value of 200 items it finds a posterior that is 20 % too narrow in 0.9 of cases at the level 0.05
    (tests/test_calibration.py).

    Raises:
        InputError: fewer than three items.

    J. Neyman 1937 (Skandinavisk Aktuarietidskrift 20, 149); H. Hotelling 1931 (Ann. Math. Stat. 2, 360).
    """
    from scipy import special

    n = len(u)
    require(n > 2, "u", tuple(u.shape), "give ranks of at least three items")
    u = u.double().reshape(n, -1)
    f = torch.stack([3**0.5 * (2 * u - 1), 5**0.5 * (6 * u**2 - 6 * u + 1)], dim=2).mean(1)
    mean = f.mean(0)
    if u.shape[1] == 1:
        return float(special.chdtrc(2, n * float(mean.square().sum())))
    squared = n * float(mean @ torch.linalg.solve(torch.cov(f.T) + _LEAST * torch.eye(2).double(), mean))
    return float(special.fdtrc(2, n - 2, squared * (n - 2) / (2 * (n - 1))))
