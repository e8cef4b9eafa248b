"""What a sampler returns: samples, what they cost, and what the default solver chose."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from scoresde.sampling.choices import Choices


@dataclass(frozen=True)
class Samples:
    """What a sampler returns.

    Attributes:
        x: the samples, (n, *event), in the units of the model.
        nfe: network evaluations per sample, counted where they happened.
        seconds: wall-clock time; of several batches the sum, whichever processes drew them.
        choices: which candidates `Auto` took; None of other solvers.
        products: products with the Jacobian of the network per sample, counted likewise.
    """

    x: Tensor
    nfe: float
    seconds: float
    choices: Choices | None = None
    products: float = 0.0

    @property
    def arrays(self) -> dict[str, Any]:
        """Everything by name, as arrays or what numpy makes arrays of; see `of`."""
        own = self.choices._asdict() if self.choices else {}
        return {"x": self.x.cpu().numpy(), "nfe": self.nfe, "seconds": self.seconds, "products": self.products, **own}

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Self:
        """From `arrays`, on the CPU."""
        choices = None
        if "shares" in arrays:
            names, levels = (list(np.asarray(arrays[key]).tolist()) for key in ("names", "levels"))
            choices = Choices(names, levels, torch.as_tensor(arrays["shares"]))
        nfe, seconds, products = (float(arrays.get(key, 0.0)) for key in ("nfe", "seconds", "products"))
        return cls(torch.as_tensor(arrays["x"]), nfe, seconds, choices, products)

    @classmethod
    def joined(cls, batches: Iterable[Self]) -> Self:
        """All samples of several batches, with what they cost together."""
        parts = list(batches)
        x = torch.cat([part.x for part in parts])
        nfe, products = (math.fsum(getattr(p, k) * len(p.x) for p in parts) / len(x) for k in ("nfe", "products"))
        choices = Choices.joined([(len(part.x), part.choices) for part in parts])
        return cls(x, nfe, math.fsum(part.seconds for part in parts), choices, products)
