"""The family of reverse processes that share the marginals of an SDE, as coefficients of x and eps."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from scoresde.constraints import Checked, Constraint, NonNegative
from scoresde.errors import require
from scoresde.sde import SDE

_LARGEST = 1e3  # far above anything of use; eta^2 times a step must stay far from the largest float64
_Level = Annotated[float, Constraint(lambda eta: 0 <= eta <= _LARGEST, f"a number from 0 to {_LARGEST:g}")]


class EtaFunction(Checked, ABC):
    """A noise level eta >= 0 that depends on lam = log(alpha / sigma)."""

    @abstractmethod
    def __call__(self, lam: Tensor) -> Tensor:
        """eta at `lam`, of the same shape, float64."""


@dataclass(frozen=True)
class EtaWindow(EtaFunction):
    """Noise between two levels only: eta where lowest <= sigma / alpha <= highest, and 0 elsewhere.

    Noise early on corrects mistakes of structure, noise late leaves a grain that nothing removes; both Karras et al.
    2022 (arXiv 2206.00364, section 4) and Xue et al. 2023 (arXiv 2309.05019, section 6) add it in between.

    Args:
        eta: noise level within the window.
        lowest: lower end of the window, as sigma / alpha.
        highest: upper end of the window, as sigma / alpha.

    Raises:
        InputError: for a negative eta or an empty window.
    """

    eta: _Level = 1.0
    lowest: NonNegative = 0.05
    highest: float = 1.0

    def __post_init__(self) -> None:
        require(self.highest > self.lowest, "highest", self.highest, f"give a ratio > lowest = {self.lowest}")

    def __call__(self, lam: Tensor) -> Tensor:
        ratio = torch.exp(-lam)
        return self.eta * ((self.lowest <= ratio) & (ratio <= self.highest)).to(lam.dtype)


Eta = _Level | EtaFunction


def eta_at(eta: Eta, lam: Tensor) -> Tensor:
    """The noise level at `lam`, float64."""
    return eta(lam) if isinstance(eta, EtaFunction) else torch.full_like(lam, eta)


def reverse_drift(sde: SDE, t: float | Tensor, eta: Eta) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients (a, b, c) of dx = (a x + b eps) dt + c dw at times t, integrated from T down to 0; float64.

        dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw,   score = -eps / sigma

    eta = 1 is the reverse SDE (Anderson 1982; Song et al. 2021, arXiv 2011.13456, eq. 6), eta = 0 the probability-flow
    ODE (eq. 13); every eta >= 0 has the same marginals.
    """
    g2 = sde.g2(t)
    sigma = sde.sigma(torch.as_tensor(t, dtype=torch.float64))
    level = eta_at(eta, sde.lam(t))
    return sde.f(t), (1 + level**2) / 2 * g2 / sigma, level * g2.sqrt()
