"""The training steps since the last log: mean loss, loss per noise level, and whether everything was finite."""

import math
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
        self._skipping = skipping
        self._leveled = range_of_lam is not None
        self._low, high = range_of_lam or (0.0, 1.0)
        self._width = (high - self._low) / _BINS
        self._names = self._bin_names()
        self._losses: list[Tensor] = []
        self._lams: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._weights: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._norms)

    def add(self, terms: LossTerms, norm: Tensor, weight: Tensor | None = None) -> None:
        """Add one step: its loss terms, detached, the norm of its gradient before clipping, and weights (B,)."""
        self._losses.append(terms.loss)
        if terms.lam is not None and self._leveled:
            self._lams.append(terms.lam)
        self._norms.append(norm)
        if weight is not None:
            self._weights.append(weight)

    def summary(self) -> tuple[dict[str, float], BadStep | None]:
        """Mean `loss` and `gradient_norm`, and `loss_at/lam_...` of each bin with samples; the window is then empty.

        Where steps are skipped, `gradient_norm` is the mean of those that were not.
        """
        losses, norms = torch.stack(self._losses), torch.stack(self._norms)
        lams = torch.stack(self._lams) if self._lams else None
        wide = losses.to(torch.float64)
        weights = torch.stack(self._weights) if self._weights else torch.ones_like(wide)
        self._losses, self._lams, self._norms, self._weights = [], [], [], []
        wide, members = weights * wide, self._members(lams)
        sound = torch.isfinite(norms)
        taken = norms[sound] if self._skipping else norms
        numbers = [wide.mean(), taken.mean(dtype=torch.float64), (~sound).sum()]
        numbers += [torch.where(m, wide, 0.0).sum() for m in members]
        numbers += [torch.where(m, weights, 0.0).sum() for m in members]
        finite = torch.isfinite(losses).all(1) & (sound | self._skipping)
        numbers.append(finite.all())
        bins = len(members)
        mean, norm, skipped, *rest, fine = torch.stack([n.to(torch.float64) for n in numbers]).tolist()
        scalars = {"loss": mean, "gradient_norm": norm} | ({"skipped_steps": skipped} if self._skipping else {})
        scalars |= {
            name: total / count
            for name, total, count in zip(self._names[:bins], rest[:bins], rest[bins:], strict=True)
            if count > 0
        }
        return scalars, None if fine else self._first_bad(losses, lams, finite)

    def _members(self, lams: Tensor | None) -> list[Tensor]:
        """Which samples are in each bin."""
        if lams is None:
            return []
        bins = ((lams - self._low) / self._width).long().clamp(0, _BINS - 1)
        return [bins == i for i in range(_BINS)]

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

    def _bin_names(self) -> list[str]:
        centres = [self._low + (i + 0.5) * self._width for i in range(_BINS)]
        digits = max(1, math.ceil(-math.log10(self._width)))  # enough to tell the bins apart
        return [f"loss_at/lam_{round(c, digits) + 0.0:.{digits}f}" for c in centres]  # + 0.0: no minus zero
