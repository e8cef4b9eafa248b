"""What a sampler returns: samples, what they cost, and what the default solver chose."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from scoresde.sampling.choices import Choices


@dataclass(frozen=True)
class Samples:
    """What a sampler returns.

    Attributes:
        x: the samples, (n, *event), in the units of the model.
        nfe: network evaluations per sample, counted where they happened.
        seconds: wall-clock time.
        choices: which candidates `Auto` took; None of other solvers.
    """

    x: Tensor
    nfe: float
    seconds: float
    choices: Choices | None = None

    @classmethod
    def joined(cls, batches: Iterable[Self]) -> Self:
        """All samples of several batches, with what they cost together."""
        parts = list(batches)
        x = torch.cat([part.x for part in parts])
        nfe = math.fsum(part.nfe * len(part.x) for part in parts) / len(x)
        choices = Choices.joined([(len(part.x), part.choices) for part in parts])
        return cls(x, nfe, math.fsum(part.seconds for part in parts), choices)
