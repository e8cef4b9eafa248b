"""Variance-preserving paths through N given noise levels: the discrete chains of DDPM and its successors."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import at_least
from scoresde.errors import require
from scoresde.sde.base import FIRST_LAM
from scoresde.sde.user import PathSDE

Schedule = Literal["linear", "scaled_linear", "cosine", "harmonic"]
_NO_SIGNAL = -12.0  # lam that stands for alpha = 0: far from all that matters, and within the digits of float32


class LevelsVPSDE(PathSDE):
    """The variance-preserving path through N given levels, level k at the time t = k / (N - 1).

    Between the levels lam = log(alpha / sigma) is a monotone cubic of t through those next to it (Fritsch and Carlson
    1980), so that solvers may use any time. The prior is N(0, I). A last level of alpha = 0 (zero terminal
    signal-to-noise ratio) is put at lam = -12 or below, so that lists of levels begin at its number; other grids begin
    at lam = -7, also on a path that ends below it, such as the cosine one.

    Args:
        alphas: alpha_k^2, (N,), falling: `alphas_cumprod` of diffusers' schedulers; the last may be 0.
        t_min: see `SDE`; level 0 is at t = 0, so any tiny value will do.
        t_train: see `SDE`.

    Attributes:
        last_level: N - 1, the number of the level at T.

    Raises:
        InputError: fewer than 3 levels, or squares that do not fall from below 1 to 0 or above.
    """

    def __init__(self, alphas: tuple[float, ...], *, t_min: float = 1e-12, t_train: float = 1e-12) -> None:
        alpha2 = np.asarray(alphas, dtype=np.float64)
        require(alpha2.ndim == 1 and len(alpha2) >= 3, "alphas", alpha2.shape, "give one for each of >= 3 levels")
        fine = alpha2[0] < 1 and alpha2[-1] >= 0 and bool((np.diff(alpha2) < 0).all())
        ends = [float(alpha2[0]), float(alpha2[-1])]
        require(fine, "alphas", ends, "give falling squares, the first < 1 and the last >= 0")
        self.alphas = tuple(alpha2.tolist())
        nothing = min(math.exp(2 * _NO_SIGNAL), alpha2[-2] / 4)
        self._pass_through(np.log(np.append(alpha2[:-1], alpha2[-1] or nothing)), t_min, t_train)

    def _pass_through(self, log_alpha2: np.ndarray, t_min: float, t_train: float) -> None:
        """Lay the path through log alpha_k^2, (N,)."""
        lams = 0.5 * (log_alpha2 - np.log(-np.expm1(log_alpha2)))
        from scipy.interpolate import PchipInterpolator

        self._cubics = torch.from_numpy(PchipInterpolator(np.arange(len(lams)), lams).c.T.copy())  # highest power first
        self.last_level = len(lams) - 1
        super().__init__(self._alpha_at, self._sigma_at, T=1.0, t_min=t_min, t_train=t_train)
        del self.alpha_of_t, self.sigma_of_t  # which are the levels'

    prior_std = 1.0  # the path preserves unit variance

    @property
    def t_start(self) -> float:
        return float(self.t_of_lam(torch.tensor(FIRST_LAM))) if self.at(self.T).lam < FIRST_LAM else self.T

    def _lam_at(self, t: Tensor) -> Tensor:
        k = t * self.last_level
        whole = k.detach().floor().clamp(0, self.last_level - 1)
        c, u = self._cubics.to(t.device)[whole.long()], k - whole
        return ((c[..., 0] * u + c[..., 1]) * u + c[..., 2]) * u + c[..., 3]

    def _alpha_at(self, t: Tensor) -> Tensor:
        return torch.exp(0.5 * torch.nn.functional.logsigmoid(2 * self._lam_at(t)))

    def _sigma_at(self, t: Tensor) -> Tensor:
        return torch.exp(0.5 * torch.nn.functional.logsigmoid(-2 * self._lam_at(t)))


class DiscreteVPSDE(LevelsVPSDE):
    """The variance-preserving path through the N levels of a discrete chain, level k at the time t = k / (N - 1).

        alpha_k^2 = (1 - beta_0) (1 - beta_1) ... (1 - beta_k),   alpha^2 + sigma^2 = 1

        schedule        beta_k
        linear          first + (last - first) k / (N - 1)
        scaled_linear   (sqrt(first) + (sqrt(last) - sqrt(first)) k / (N - 1))^2
        cosine          1 - a(k + 1) / a(k), at most 0.999,  a(k) = cos^2((pi/2) (k/N + 0.008) / 1.008)
        harmonic        first, then 1 / (N - k (N - 2) / (N - 1)): about 1/N of the variance of the data in each step

    See `LevelsVPSDE` for the times between the levels. The continuous `VPSDE` is not the same: lam differs by up to 0.7
    at equal t.

    Args:
        schedule: see above; `cosine` ignores `first` and `last`, `harmonic` ignores `last`.
        levels: N.
        first: see above.
        last: see above.
        t_min: see `SDE`; level 0 is at t = 0, so any tiny value will do.
        t_train: see `SDE`.

    Raises:
        InputError: fewer than 3 levels, or rates that are not 0 < first <= last < 1.

    Ho et al. 2020 (arXiv 2006.11239); cosine: Nichol and Dhariwal 2021 (arXiv 2102.09672, eq. 17);
    harmonic: Sohl-Dickstein et al. 2015 (arXiv 1503.03585, section 2.4.1).
    """

    def __init__(
        self,
        schedule: Schedule = "linear",
        levels: Annotated[int, at_least(3)] = 1000,
        first: float = 1e-4,
        last: float = 0.02,
        *,
        t_min: float = 1e-12,
        t_train: float = 1e-12,
    ) -> None:
        require(0 < first <= last < 1, "first", first, f"give rates with 0 < first <= last = {last} < 1")
        rates = betas(schedule, levels, first, last)
        self._pass_through(np.cumsum(np.log1p(-rates)), t_min, t_train)
        self.schedule, self.levels, self.first, self.last = schedule, levels, first, last


def betas(schedule: str, levels: int, first: float, last: float) -> np.ndarray:
    """The rates beta_k, (N,), of a `DiscreteVPSDE`.

    Or `sigmoid`, like cosine with a(k) = 1 / (1 + e^(6 k/N - 3)) - 1 / (1 + e^3) (Jabri et al. 2022, arXiv 2212.11972).
    """
    if schedule == "linear":
        return np.linspace(first, last, levels)
    if schedule == "scaled_linear":
        return np.linspace(math.sqrt(first), math.sqrt(last), levels) ** 2
    if schedule == "harmonic":
        return np.append(first, 1 / np.linspace(levels, 2, levels)[1:])
    part = np.arange(levels + 1) / levels
    a = np.cos(0.5 * np.pi * (part + 0.008) / 1.008) ** 2
    if schedule == "sigmoid":
        a = 1 / (1 + np.exp(6 * part - 3)) - 1 / (1 + np.exp(3))
    return np.asarray(np.minimum(1 - a[1:] / a[:-1], 0.999))
