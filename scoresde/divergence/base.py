"""The contract of divergences, and the exact trace."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.described import Rebuildable
from scoresde.divergence.products import Field, directions_at_once, with_products
from scoresde.errors import InputError
from scoresde.room import in_words, memory

Normal = Callable[[int, int], Tensor]  # (k, step) to k standard normal tensors of the shape of x, (k, B, *event)
_COPIES = 4  # of the directions: themselves, their products, and at least two within the network


class Divergence(Rebuildable, ABC):
    """The trace of the Jacobian of a field, exactly or by unbiased estimates, together with the field itself.

    What is integrated along a trajectory are `columns` numbers for each sample. `estimate` turns their integrals into
    one number and its standard error.

    Attributes:
        columns: numbers for each sample.
        fresh: whether the directions differ between evaluations. Otherwise one draw serves the whole trajectory, as a
            solver needs whose steps or weights depend on what it sees.
    """

    columns: int = 1
    fresh: bool = False

    @abstractmethod
    def of(self, field: Field, x: Tensor, normal: Normal, evaluation: int) -> tuple[Tensor, Tensor]:
        """The field (B, *event) and its divergence (B, columns) at x.

        Args:
            field: acts on each sample by itself.
            x: (B, *event).
            normal: normal(k, step) gives k standard normal tensors (k, B, *event), as a function of the seed, the
                sample and the step.
            evaluation: its number on the trajectory, from 0.

        Raises:
            InputError: the field has no derivative, or the directions do not fit into memory.
        """

    @abstractmethod
    def products(self, size: int) -> float:
        """Jacobian-vector products for each sample in one evaluation, of events of so many values; their mean."""

    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """Value and standard error (B,) from the integrals (B, columns); NaN where one column tells no error."""
        value = integrals.mean(1)
        return value, integrals.std(1) / self.columns**0.5 if self.columns > 1 else torch.full_like(value, math.nan)

    def quantile(self, level: float = 0.95) -> float:
        """Standard errors in half an interval: of Student's t with columns - 1 degrees of freedom."""
        from scipy.special import stdtrit

        return float(stdtrit(self.columns - 1, (1 + level) / 2)) if self.columns > 1 else math.nan


@dataclass(frozen=True, repr=False)
class ExactTrace(Divergence):
    """The trace itself, by one product with the Jacobian for each value of an event, several in one pass.

    Raises:
        InputError: from `of`, where the products do not fit into memory.
    """

    def of(self, field: Field, x: Tensor, normal: Normal, evaluation: int) -> tuple[Tensor, Tensor]:
        batch, size = len(x), math.prod(x.shape[1:])
        count = _at_once(x)
        trace = torch.zeros(batch, dtype=torch.float64, device=x.device)
        value, product = with_products(field, x)
        for first in range(0, size, count):
            places = torch.arange(first, min(first + count, size), device=x.device)
            directions = x.new_zeros(len(places), size)
            directions[torch.arange(len(places)), places] = 1
            directions = directions[:, None].expand(-1, batch, -1).reshape(-1, *x.shape)
            columns = product(directions).reshape(len(places), batch, size)
            trace += columns.gather(2, places[:, None, None].expand(-1, batch, 1)).double().sum(0)[:, 0]
        return value, trace[:, None]

    def products(self, size: int) -> float:
        return size

    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        return integrals[:, 0], torch.zeros_like(integrals[:, 0])

    def quantile(self, level: float = 0.95) -> float:
        return 0.0


def _at_once(x: Tensor) -> int:
    """Directions of an exact trace in one pass."""
    size, count = x[0].numel(), directions_at_once(x)
    needed = _COPIES * count * x.numel() * x.element_size()
    if needed > memory():
        raise InputError(
            f"divergence: an exact trace of {len(x)} samples of {size:,} values needs at least {in_words(needed)}, and "
            f"there are {in_words(memory())}; give a smaller batch_size, or use an estimate, such as Hutchinson"
        )
    return min(size, count)
