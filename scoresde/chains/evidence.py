"""Sampling from a posterior: models times a second distribution, and that of bits."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from scoresde.chains.binomial import BitPrediction
from scoresde.control.wrapper import Wrapper
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.nets.condition import Cond


class Evidence(Wrapper):
    """Base class of models multiplied with a second distribution r.

    Their predictions are those of the product, for all solvers. `scoresde.sampling.MultipliedSteps` asks the inner
    model instead and multiplies each step, by `multiplied`.
    """

    @abstractmethod
    def multiplied(self, first: Tensor, second: Any, power: float) -> tuple[Tensor, Any]:
        """The distribution of a reverse step times r(x_s)^power, normalised.

        Args:
            first: its mean, or on a chain of bits the bits x_t, (B, *event).
            second: its standard deviation, or the probability that each bit flips.
            power: of r, > 0.
        """


class BitEvidence(Evidence):
    """A chain of bits multiplied with a second distribution of independent bits, r(x_0) = prod_i r_i(x_0i).

        P(x_0i | x_t, r)  proportional to  P(x_0i | x_t) r_i(x_0i)

    for inpainting (bits that are known) and for denoising (bits that were seen with errors). It is exact if the bits
    are independent. Otherwise the evidence on one bit reaches the others only through x_t, in which that bit is noisy
    at first, so that samples may contradict it. Sohl-Dickstein et al. 2015 (arXiv 1503.03585), section 2.5.

    Args:
        model: of bits.
        log_odds: log(r_i(1) / r_i(-1)) of each bit, (*event), or (n, *event) for the samples in turn: 0 where nothing
            is known, inf or -inf where the bit is, y log((1 - e) / e) where y was seen with a probability e of error.

    Raises:
        InputError: another kind of model, or odds that are NaN or of another shape.
    """

    def __init__(self, model: Model, log_odds: Tensor) -> None:
        super().__init__(model)
        require(model.states == "bits", "model", type(model).__name__, "give a chain of bits")
        require(not bool(log_odds.isnan().any()), "log_odds", "NaN", "give 0 where nothing is known")
        self.log_odds: Tensor
        self.register_buffer("log_odds", log_odds)

    def of_samples(self, rows: Tensor) -> Model:
        own = self.around(self.model.of_samples(rows))
        if self.event_shape is not None and self.log_odds.ndim > len(self.event_shape):
            own._buffers = {**self._buffers, "log_odds": self.log_odds[rows % len(self.log_odds)]}
        return own

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> BitPrediction:
        inner = self.model(x, t) if cond is None else self.model(x, t, cond)
        assert isinstance(inner, BitPrediction)
        return BitPrediction(x, self.multiplied(x, inner.wrong, 1.0)[1], self.sde, t, self.levels(t))

    def multiplied(self, first: Tensor, second: Tensor, power: float) -> tuple[Tensor, Tensor]:
        odds, x = self.log_odds.to(first), first
        if odds.shape not in (x.shape, x.shape[1:]):
            raise InputError(f"log_odds: {tuple(odds.shape)} for bits {tuple(x.shape[1:])}; give one for each bit")
        wrong = second.clamp(1e-30, 1 - torch.finfo(x.dtype).eps)
        return x, torch.sigmoid(torch.logit(wrong) - power * x * odds)
