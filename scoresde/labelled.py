"""The model around networks that take a label of the noise level, such as the number of one of N levels."""

import math
from typing import Any, Literal

from torch import Tensor, nn

from scoresde._shapes import Coefficient, expand
from scoresde.constraints import Positive
from scoresde.errors import require
from scoresde.model import ScoreModel
from scoresde.nets.condition import Cond
from scoresde.precond import Precond, Preconditioning, coefficients
from scoresde.sde import SDE
from scoresde.variance import Variance

Label = Literal["time", "log_time", "log_sigma"]


class LabelledModel(ScoreModel):
    """A network that takes x itself, in its own units, and a label of the noise level.

        net( gain (x - centre), label ),    label = label_scale y + label_shift,    y = t, ln(t) or ln(sigma/alpha)

    On another path than its own (see `ScoreModel.under`), x and t are those of the level with the same sigma/alpha on
    the path that the network was trained on.

    Args:
        net: see `ScoreModel`.
        sde: see `ScoreModel`.
        precond: see `ScoreModel`.
        sigma_data: standard deviation of the data; the network does not depend on it unless precond=edm.
        variance: see `ScoreModel`.
        label: which y.
        label_scale: see above; labels 999 t are those of the VP networks of Song et al. 2021 (arXiv
            2011.13456), ln(sigma) that of their VE networks. None, on a path of levels, for labels that are the numbers
            of the levels from 0.
        label_shift: see above.
        gain: see above; 2 for data in [0, 1] and a network that takes [-1, 1].
        centre: see above; 1/2 for such data.

    Raises:
        InputError: an unknown label, a gain of zero, or a label_scale of None on a path without levels.
    """

    def __init__(
        self,
        net: nn.Module,
        sde: SDE,
        precond: Precond = "eps",
        sigma_data: Positive = 0.5,
        variance: Variance = "fixed",
        *,
        label: Label = "time",
        label_scale: float | None = 999.0,
        label_shift: float = 0.0,
        gain: float = 1.0,
        centre: float = 0.0,
    ) -> None:
        super().__init__(net, sde, precond, sigma_data, variance)
        require(gain != 0, "gain", gain, "give a factor other than 0")
        scale: Any = getattr(sde, "last_level", None) if label_scale is None else label_scale
        require(scale is not None, "label_scale", None, "this path has no levels; give a number")
        self.label, self.label_scale, self.label_shift = label, float(scale), label_shift
        self.gain, self.centre = gain, centre

    def preconditioning(self, alpha: Coefficient, sigma: Coefficient, lam: Coefficient) -> Preconditioning:
        """The four coefficients at a level; c_noise is the label."""
        there = self._where_trained(lam)
        c = coefficients(self.precond, there.alpha, there.sigma, lam, self.sigma_data, there.slopes)
        number = self.label_scale * self._y(there.t, lam) + self.label_shift
        ratio = there.alpha / alpha
        return Preconditioning(self.gain * ratio, c.c_skip * ratio, c.c_out, number)

    def _y(self, t: Coefficient, lam: Coefficient) -> Coefficient:
        if self.label == "log_time":
            return t.log() if isinstance(t, Tensor) else math.log(t)
        return t if self.label == "time" else -lam

    def raw(self, x: Tensor, c: Preconditioning, cond: Cond = None) -> Tensor:
        """The output of the network at the preconditioning `c`, in the dtype of x."""
        if self.centre:
            x = x - expand(self.gain * self.centre / c.c_in, x)
        return super().raw(x, c, cond)
