"""What the training steps since the last log said: mean loss, loss per noise level, and whether all was finite."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.loss import LossTerms
from scoresde.sde import SDE

_BINS = 8  # noise levels that are told apart


class BadStep(NamedTuple):
    """The first step whose loss or gradient was not finite: which of the window, from 0, and at which lam."""

    row: int
    lam: float
    what: str


class Window:
    """Losses (B,), their lam (B,) and gradient norms of consecutive steps, kept on the device until asked for.

    A step adds references to tensors that exist anyway, so the training loop waits for nothing; `summary` costs one
    copy to the host. Levels are grouped into eight equal bins of lam between lam(T) and lam(t_train).

    Args:
        sde: the path, for the range of lam.
        skipping: steps whose gradient is not finite are skipped, as with a loss scale that is still too large: they are
            counted (`skipped_steps`) instead of being bad.
    """

    def __init__(self, sde: SDE, skipping: bool = False) -> None:
        self._skipping = skipping
        self._low, high = sde.lam(torch.tensor([sde.T, sde.t_train], dtype=torch.float64)).tolist()
        self._width = (high - self._low) / _BINS
        self._names = self._bin_names()
        self._losses: list[Tensor] = []
        self._lams: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._weights: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._norms)

    def add(self, terms: LossTerms, norm: Tensor, weight: Tensor | None = None) -> None:
        """Take in one step: its loss terms, detached, the norm of its gradient before clipping, and weights (B,)."""
        self._losses.append(terms.loss)
        self._lams.append(terms.lam)
        self._norms.append(norm)
        if weight is not None:
            self._weights.append(weight)

    def summary(self) -> tuple[dict[str, float], BadStep | None]:
        """Mean `loss` and `gradient_norm`, `loss_at/lam_...` for each bin that was visited; then start anew.

        Where steps are skipped, `gradient_norm` is the mean of those that were not.
        """
        losses, lams, norms = torch.stack(self._losses), torch.stack(self._lams), torch.stack(self._norms)
        wide = losses.to(torch.float64)
        weights = torch.stack(self._weights) if self._weights else torch.ones_like(wide)
        self._losses, self._lams, self._norms, self._weights = [], [], [], []
        wide, bins = weights * wide, ((lams - self._low) / self._width).long().clamp(0, _BINS - 1)
        members = [bins == i for i in range(_BINS)]
        sound = torch.isfinite(norms)
        taken = norms[sound] if self._skipping else norms
        numbers = [wide.mean(), taken.mean(dtype=torch.float64), (~sound).sum()]
        numbers += [torch.where(m, wide, 0.0).sum() for m in members]
        numbers += [torch.where(m, weights, 0.0).sum() for m in members]
        finite = torch.isfinite(losses).all(1) & (sound | self._skipping)
        numbers.append(finite.all())
        mean, norm, skipped, *rest, fine = torch.stack([n.to(torch.float64) for n in numbers]).tolist()
        scalars = {"loss": mean, "gradient_norm": norm} | ({"skipped_steps": skipped} if self._skipping else {})
        scalars |= {
            name: total / count
            for name, total, count in zip(self._names, rest[:_BINS], rest[_BINS:], strict=True)
            if count > 0
        }
        return scalars, None if fine else self._first_bad(losses, lams, finite)

    @staticmethod
    def _first_bad(losses: Tensor, lams: Tensor, finite: Tensor) -> BadStep:
        row = int((~finite).int().argmax())
        broken = ~torch.isfinite(losses[row])
        if bool(broken.any()):
            return BadStep(row, float(lams[row][broken][0]), "the loss is not finite")
        # a gradient belongs to the whole batch: name the level at which the loss was largest
        worst = losses[row].argmax()
        return BadStep(row, float(lams[row][worst]), "the gradient is not finite, and the loss was largest")

    def _bin_names(self) -> list[str]:
        centres = [self._low + (i + 0.5) * self._width for i in range(_BINS)]
        digits = max(1, math.ceil(-math.log10(self._width)))  # enough to tell the bins apart
        return [f"loss_at/lam_{round(c, digits) + 0.0:.{digits}f}" for c in centres]  # + 0.0: no minus zero
