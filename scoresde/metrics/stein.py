"""The kernel Stein discrepancy of samples from a distribution of which the score is known."""

import torch
from torch import Tensor

from scoresde.errors import require
from scoresde.results.metric import Measurement


def kernel_stein(x: Tensor, score: Tensor, scale: float | None = None) -> Measurement:
    """Squared kernel Stein discrepancy of samples, zero on average if their distribution has this score.

        mean over i != j of  s_i . s_j k + s_i . grad_y k + s_j . grad_x k + tr grad_x grad_y k,
        k(x, y) = (c^2 + |x - y|^2)^(-1/2)

    It needs no draws of the distribution: for a posterior s is the score of the prior plus grad log p(y | x). It hardly
    sees the weights of modes that are far apart. Its interval is that of a
    normal mean; it held zero for 94 of 100 sets of 100 exact draws (tests/test_stein.py).

    Args:
        x: samples (n, *event), n >= 2.
        score: s (n, *event), at the samples.
        scale: c; None for the median distance of the samples.

    Raises:
        InputError: fewer than two samples, scores of another shape, or a scale that is not positive.

    Liu et al. 2016 (arXiv 1602.03253), eq. 14; the kernel is that of Gorham and Mackey 2017 (arXiv 1703.01717).
    """
    require(len(x) > 1, "x", tuple(x.shape), "give at least two samples")
    require(score.shape == x.shape, "score", tuple(score.shape), f"give one for each sample, {tuple(x.shape)}")
    x, s = x.flatten(1).double(), score.flatten(1).double()
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    upper = torch.triu(torch.ones_like(apart, dtype=torch.bool), 1)
    c = float(apart[upper].median().sqrt()) if scale is None else scale
    require(c > 0, "scale", c, "give a number > 0")
    q = c**2 + apart
    along = (s * x).sum(1, keepdim=True) - s @ x.T  # s_i . (x_i - x_j)
    k3 = q**-1.5
    values = (s @ s.T) * q**-0.5 + (along + along.T) * k3 + x.shape[1] * k3 - 3 * apart * q**-2.5
    rows = values.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0).sum(1) / (len(x) - 1)
    return Measurement(float(rows.mean()), half=1.96 * 2 * float(rows.std()) / len(x) ** 0.5)
