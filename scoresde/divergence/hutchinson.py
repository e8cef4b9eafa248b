"""Estimates of a trace by quadratic forms in random directions."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from scoresde.constraints import Count
from scoresde.divergence.base import Divergence, Normal
from scoresde.divergence.directions import Kind, Place, directions
from scoresde.divergence.products import Field, with_products
from scoresde.errors import refuse, require


@dataclass(frozen=True, repr=False)
class Hutchinson(Divergence):
    """The mean of v^T J v over random directions v with E[v v^T] = I: unbiased.

    Directions of one group may depend on each other. The groups are independent and estimate the error.

    Args:
        probes: directions at each evaluation.
        directions: how they are drawn. signs (Rademacher); gaussian; orthogonal: an orthogonal block on the sphere;
            hadamard: signs that are orthogonal in each group, over evaluations as well.
        fresh: other ones at every evaluation.
        groups: of the probes; None for one each, or for up to 4 of orthogonal and hadamard.
        counts: directions of each group at evaluations 0, 1, ..., in place of probes / groups; see
            `scoresde.likelihood.allocated`.

    Raises:
        InputError: probes that are no multiple of groups; counts without fresh; from `of`, more orthogonal directions
            than dimensions.

    Hutchinson 1989; with Hadamard vectors Stathopoulos et al. 2013 (arXiv 1302.4018).
    """

    probes: Count = 1
    directions: Kind = "signs"
    fresh: bool = False
    groups: Count | None = None
    counts: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        fits = self.probes % self.columns == 0
        require(fits, "divergence.groups", self.groups, f"the {self.probes} probes must be a multiple of it")
        refuse(self.counts is not None and not self.fresh, "divergence.counts: these need fresh=true")

    @property
    def columns(self) -> int:  # type: ignore[override]
        if self.groups is None and self.directions in ("orthogonal", "hadamard"):
            return next(n for n in (4, 3, 2, 1) if self.probes % n == 0)
        return self.probes if self.groups is None else self.groups

    def of(self, field: Field, x: Tensor, normal: Normal, evaluation: int) -> tuple[Tensor, Tensor]:
        usual, counts = self.probes // self.columns, self.counts or ()
        count = counts[evaluation] if evaluation < len(counts) else usual
        first = sum(counts[:evaluation]) + usual * max(0, evaluation - len(counts)) if self.fresh else 0
        step = evaluation if self.fresh and self.directions != "hadamard" else 0
        v = directions(self.directions, x, normal, Place(self.columns, count, step, first))
        value, product = with_products(field, x)
        return value, _forms(v, product(v)).reshape(self.columns, count, len(x)).mean(1).T

    def products(self, size: int) -> float:
        counts: Sequence[int] = self.counts or (self.probes // self.columns,)
        return self.columns * sum(counts) / len(counts)


def _forms(v: Tensor, products: Tensor) -> Tensor:
    """v^T J v - c (v^T v - D), float64 (k, B), for v and v J (k, B, *event).

    c is the best multiple of the identity by the other directions, so that it does not depend on v. The second term is
    zero for directions of squared length D.
    """
    forms, squares = (a.double().flatten(2).sum(2) for a in (v * products, v * v))
    if len(v) == 1:
        return forms
    c = (forms.sum(0) - forms) / (squares.sum(0) - squares)
    return forms - c * (squares - v[0, 0].numel())
