"""The contract of divergences, the exact trace, and Hutchinson's estimate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count
from scoresde.described import Rebuildable
from scoresde.divergence.products import Field, products
from scoresde.errors import InputError
from scoresde.room import in_words, memory

Normal = Callable[[int], Tensor]  # k to k standard normal tensors of the shape of x, (k, B, *event)
_AT_ONCE = 2**24  # values of all directions at once, by default
_COPIES = 4  # of the directions: themselves, their products, and at least two within the network


class Divergence(Rebuildable, ABC):
    """The trace of the Jacobian of a field, exactly or by unbiased estimates, together with the field itself.

    What is integrated along a trajectory are `columns` numbers for each sample. `estimate` turns their integrals into
    one number and its standard error.

    Attributes:
        columns: numbers for each sample.
        fresh: whether random directions are drawn again at every evaluation. Otherwise one draw serves the whole
            trajectory, as a solver needs whose steps or weights depend on what it sees.
    """

    columns: int = 1
    fresh: bool = False

    @abstractmethod
    def of(self, field: Field, x: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        """The field (B, *event) and its divergence (B, columns) at x.

        Args:
            field: acts on each sample by itself.
            x: (B, *event).
            normal: normal(k) gives k standard normal tensors (k, B, *event), as a function of the seed, the sample and
                the evaluation.

        Raises:
            InputError: the field has no derivative, or the directions do not fit into memory.
        """

    @abstractmethod
    def products(self, size: int) -> int:
        """Jacobian-vector products for each sample in one evaluation, of events of so many values."""

    @abstractmethod
    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        """Value and standard error (B,) from the integrals (B, columns); NaN where one draw tells no error."""


@dataclass(frozen=True, repr=False)
class ExactTrace(Divergence):
    """The trace itself, by one Jacobian-vector product for each value of an event, many at once.

    Args:
        at_once: directions in one pass, which take memory; None for as many as are reasonable.

    Raises:
        InputError: from `of`, where so many directions do not fit into memory.
    """

    at_once: Count | None = None

    def of(self, field: Field, x: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        batch, size = len(x), math.prod(x.shape[1:])
        count = self._count(batch, size, x.element_size())
        trace, value = torch.zeros(batch, dtype=torch.float64, device=x.device), x
        for first in range(0, size, count):
            places = torch.arange(first, min(first + count, size), device=x.device)
            directions = x.new_zeros(len(places), size)
            directions[torch.arange(len(places)), places] = 1
            directions = directions[:, None].expand(-1, batch, -1).reshape(-1, *x.shape)
            value, found = products(field, x, directions)
            columns = found.reshape(len(places), batch, size)
            trace += columns.gather(2, places[:, None, None].expand(-1, batch, 1)).double().sum(0)[:, 0]
        return value, trace[:, None]

    def _count(self, batch: int, size: int, width: int) -> int:
        """Directions in one pass."""
        count = min(size, self.at_once or max(1, _AT_ONCE // max(batch * size, 1)))
        needed = _COPIES * count * batch * size * width
        if needed > memory():
            what = f"an exact trace of {batch} samples of {size:,} values, {count:,} directions at once"
            raise InputError(
                f"divergence: {what}, needs at least {in_words(needed)}, and there are {in_words(memory())}; give a "
                "smaller batch_size, or use an estimate, such as Hutchinson"
            )
        return count

    def products(self, size: int) -> int:
        return size

    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        return integrals[:, 0], torch.zeros_like(integrals[:, 0])


@dataclass(frozen=True, repr=False)
class Hutchinson(Divergence):
    """The mean of v^T J v over random signs v, Hutchinson 1989: unbiased.

    Args:
        probes: number of directions v.
        fresh: draw them again at every evaluation.
    """

    probes: Count = 1
    fresh: bool = False

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.probes

    def of(self, field: Field, x: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        v = torch.where(normal(self.probes) < 0, -1.0, 1.0).to(x)
        value, found = products(field, x, v)
        return value, (v * found).flatten(2).sum(2, dtype=torch.float64).T

    def products(self, size: int) -> int:
        return self.probes

    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        return integrals.mean(1), integrals.std(1) / self.probes**0.5
