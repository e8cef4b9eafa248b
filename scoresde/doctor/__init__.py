"""Is an SDE sound, and does it fit the data? Each check is one line: ok, warning or wrong, and what to do about it."""

from typing import Protocol

import torch
from torch import Tensor

from scoresde.doctor import path
from scoresde.doctor.fit import Moments, ends, measure, prior_divergence
from scoresde.doctor.path import Finding, Verdict
from scoresde.sde import SDE

__all__ = ["Finding", "Moments", "Verdict", "examine", "measure", "prior_divergence"]


class HasTrain(Protocol):
    """A data set, of which only the training items in model units are looked at."""

    @property
    def train(self) -> Tensor:
        """(N, *event)."""


@torch.no_grad()
def examine(sde: SDE, data: Tensor | HasTrain | None = None) -> list[Finding]:
    """Check an SDE by itself and, if data is given, against it.

    By itself: the path is finite, lam falls, f and g^2 are the derivatives they should be, g^2 is not negative,
    t_of_lam inverts lam, and the times at which training and sampling end make sense. Against the data: the noise that
    the last step has to remove, the signal that is left at T, the divergence of p_T from the prior, and the reach of
    the noise of an exploding SDE. Without data unit variance in every direction is assumed.

    Args:
        sde: the forward diffusion.
        data: items (N, *event) in model units, or a data set with such items as `train`.
    """
    times = path.visited(sde)
    finite = path.finite(sde, times)
    findings = [finite]
    if finite.verdict != "wrong":
        findings += [check(sde, times) for check in (path.falls, path.drift, path.diffusion, path.inverse)]
        moments = None if data is None else measure(data if isinstance(data, Tensor) else data.train)
        findings += ends(sde, moments)
    return findings
