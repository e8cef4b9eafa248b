"""The training steps since the last log: mean loss, loss per noise level, and whether everything was finite."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.loss import LossTerms

_BINS = 8  # of noise levels


class BadStep(NamedTuple):
    """The first step whose loss or gradient was not finite: its number in the window, from 0, and what was wrong."""

    row: int
    what: str


class Window:
    """Losses (B,), their lam (B,) and gradient norms of consecutive steps, kept on the device until asked for.

    A step adds references to tensors that exist anyway, so the training loop waits for nothing; `summary` costs one
    copy to the host. Noise levels are grouped into eight equal bins of lam.

    Args:
        range_of_lam: the lowest and the highest lam; None for losses without noise levels.
        skipping: steps whose gradient is not finite are skipped, as with a loss scale that is still too large: they are
            counted (`skipped_steps`) and are not errors.
    """

    def __init__(self, range_of_lam: tuple[float, float] | None, skipping: bool = False) -> None:
        self._skipping, self._leveled = skipping, range_of_lam is not None
        self._low, high = range_of_lam or (0.0, 1.0)
        self._width = (high - self._low) / _BINS
        centres = [self._low + (i + 0.5) * self._width for i in range(_BINS)]
        digits = max(1, math.ceil(-math.log10(self._width)))  # enough to tell the bins apart
        self._names = [f"loss_at/lam_{c:z.{digits}f}" for c in centres]
        self._steps: list[tuple[LossTerms, Tensor, Tensor | None]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, terms: LossTerms, norm: Tensor, weight: Tensor | None = None) -> None:
        """Add one step: its loss terms, detached, the norm of its gradient before clipping, and weights (B,)."""
        self._steps.append((terms, norm, weight))

    def summary(self) -> tuple[dict[str, float], BadStep | None]:
        """Mean `loss` and `gradient_norm`, and `loss_at/lam_...` of each bin with samples; the window is then empty.

        Where steps are skipped, `gradient_norm` is the mean of those that were not.
        """
        terms, all_norms, all_weights = zip(*self._steps, strict=True)
        self._steps = []
        losses, norms = torch.stack([one.loss for one in terms]), torch.stack(all_norms)
        lams, weights = _stacked([one.lam for one in terms]), _stacked(all_weights)
        weights = torch.ones_like(losses, dtype=torch.float64) if weights is None else weights
        weighted, sound = weights * losses, torch.isfinite(norms)
        norm = torch.where(sound, norms, 0.0).sum(dtype=torch.float64) / sound.sum()
        finite = torch.isfinite(losses).all(1) & (sound | self._skipping)
        numbers = [weighted.mean(), norm, (~sound).sum(), finite.all(), *self._sums(lams, weighted, weights)]
        loss, norm, skipped, fine, *sums = torch.stack([n.to(torch.float64) for n in numbers]).tolist()
        scalars = {"loss": loss, "gradient_norm": norm}
        if self._skipping:
            scalars["skipped_steps"] = skipped
        in_bins = zip(self._names, sums[::2], sums[1::2], strict=False)  # none without levels
        scalars |= {name: total / count for name, total, count in in_bins if count > 0}
        return scalars, None if fine else self._first_bad(losses, lams, finite)

    def _sums(self, lams: Tensor | None, *parts: Tensor) -> list[Tensor]:
        """The sum of each part over each bin."""
        if lams is None or not self._leveled:
            return []
        bins = ((lams - self._low) / self._width).long().clamp(0, _BINS - 1)
        return [torch.where(bins == i, part, 0.0).sum() for i in range(_BINS) for part in parts]

    @staticmethod
    def _first_bad(losses: Tensor, lams: Tensor | None, finite: Tensor) -> BadStep:
        row = int((~finite).int().argmax())
        broken = ~torch.isfinite(losses[row])
        if bool(broken.any()):
            what, sample = "the loss is not finite", broken.int().argmax()
        else:  # a gradient belongs to the whole batch: name the level at which the loss was largest
            what, sample = "the gradient is not finite, and the loss was largest", losses[row].argmax()
        if lams is None:
            return BadStep(row, what)
        lam = float(lams[row][sample])
        return BadStep(row, f"{what} at noise level lam={lam:.3g} (sigma/alpha={math.exp(-lam):.3g})")


def _stacked(values: Sequence[Tensor | None]) -> Tensor | None:
    """The values of all steps in one tensor; None where they have none."""
    given = [value for value in values if value is not None]
    return torch.stack(given) if given else None
