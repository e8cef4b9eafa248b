"""Where samples begin that redraw items: SDEdit."""

import math

import torch
from torch import Tensor

from scoresde.constraints import ProperFraction, require_allowed
from scoresde.errors import require
from scoresde.model import Model
from scoresde.noise import Noise


def noised(model: Model, items: Tensor, strength: float, rows: range, seed: int = 0) -> tuple[Tensor, float]:
    """Items with noise, and the time of its level, from which a sampler redraws them: `sample(start=, at=)`.

        strength = sigma / (alpha sigma_data + sigma)

    The strength is the share of the noise: near 0 the items return, near 1 nothing of them is left. It does not depend
    on the SDE, the grid or the solver. Meng et al. 2022 (arXiv 2108.01073), algorithm 1.

    Args:
        model: whose SDE adds the noise.
        items: (m, *event) in model units; sample k redraws item k mod m.
        strength: in (0, 1).
        rows: the numbers of the samples.
        seed: with the number of a sample, decides its noise.

    Returns:
        The states (B, *event), one for each row, and the time.

    Raises:
        InputError: a strength that the SDE does not reach, or a chain of bits.
    """
    model.needs_gaussian("start")
    require_allowed("strength", strength, ProperFraction)
    sde, sigma_data = model.sde, model.sigma_data
    t = float(sde.t_of_lam(torch.tensor(math.log((1 - strength) / strength / sigma_data), dtype=torch.float64)))
    least, most = (float(share) for share in _shares(model, torch.tensor([sde.t_min, sde.T], dtype=torch.float64)))
    words = f"this SDE has noise of {least:.3g} to {most:.3g}; give a number between"
    require(math.isfinite(t) and sde.t_min < t <= sde.T, "strength", strength, words)
    which = torch.arange(rows.start, rows.stop, rows.step) % len(items)
    x = items[which].to(model.device)
    alpha, sigma, _ = model.levels(t)
    return alpha * x + sigma * Noise(seed, rows).normal("start", 0, x.shape, x.device, x.dtype), t


def _shares(model: Model, t: Tensor) -> Tensor:
    alpha, sigma = model.sde.alpha(t) * model.sigma_data, model.sde.sigma(t)
    return sigma / (alpha + sigma)
