"""The probability-flow ODE of a model together with the logarithm of the volume, as one model."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scoresde._shapes import expand
from scoresde.control import Wrapper
from scoresde.divergence import Divergence
from scoresde.model import Model
from scoresde.nets.condition import Cond
from scoresde.noise import Noise
from scoresde.prediction import Prediction, levels
from scoresde.sde import SDE


class InUnits(SDE):
    """The path of x / unit, where x follows another path: sigma / unit in place of sigma, at the same times.

    Args:
        sde: the path of x.
        unit: such as the standard deviation of the data.
    """

    def __init__(self, sde: SDE, unit: float) -> None:
        super().__init__(sde.T, sde.t_min, sde.t_train)
        self.sde, self.unit = sde, unit

    def alpha(self, t: Tensor) -> Tensor:
        return self.sde.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sde.sigma(t) / self.unit

    def t_of_lam(self, lam: Tensor) -> Tensor:
        return self.sde.t_of_lam(lam - math.log(self.unit))

    @property
    def t_start(self) -> float:
        return self.sde.t_start


class Draws:
    """The random directions of a batch.

    Args:
        seed: of the draws.
        rows: the samples.
        shape: of one sample.
    """

    def __init__(self, seed: int, rows: range, shape: tuple[int, ...]) -> None:
        self._noise, self._shape = Noise(seed, rows), shape
        self.evaluation = -1
        self._kept: dict[tuple[int, int], Tensor] = {}

    def places(self, rows: Tensor) -> Tensor:
        """The places in the batch of samples by their number."""
        own = self._noise.rows or range(0)
        return (rows - own.start) // own.step

    def normal(self, x: Tensor, count: int, step: int) -> Tensor:
        """Standard normal tensors (count, B, *event) of all samples of the batch, for x of their dtype and device."""
        if (count, step) not in self._kept:  # which one draw for the whole trajectory is
            shape = len(self._noise.rows or ()), count, *self._shape
            drawn = self._noise.normal("divergence", step, shape, x.device, x.dtype).transpose(0, 1)
            self._kept = {(count, step): drawn}
        return self._kept[count, step]


class Moves:
    """How far a corrector of four values would move the predicted x, in nats, summed over the steps of a fixed grid.

        sum_k |s_k^T (x_k - x_(k-1) - int v)|

    with the states scaled to unit variance, for which dx/dphi = v in phi = atan(sigma / alpha), v as the polynomial
    through its last values, and the score s. It is large where a trajectory passes from one mode to another.

    Args:
        nats: zeros (B,), to which they are added.
    """

    def __init__(self, nats: Tensor) -> None:
        self.nats = nats
        self._last: list[tuple[float, Tensor, Tensor, Tensor]] = []  # phi, x, v, s

    def add(self, phi: float, x: Tensor, v: Tensor) -> None:
        """The next evaluation, of x and v (B, D)."""
        self._last = [*self._last[-3:], (phi, x, v, x + v / math.tan(phi))]
        if len(self._last) > 1:
            at, states, values, scores = zip(*self._last, strict=True)
            nodes = np.array(at) - phi
            powers = np.arange(len(nodes))[:, None]
            weights = np.linalg.solve(nodes**powers, -(nodes[-2] ** (powers + 1)) / (powers + 1))[:, 0]
            defect = states[-1] - states[-2] - sum(float(w) * v for w, v in zip(weights, values, strict=True))
            self.nats = self.nats + ((scores[-1] + scores[-2]) * defect).sum(1).abs() / 2


class Augmented(Wrapper):
    """A model of z = (x / s, k rho ell_1, ..., k rho ell_m): the flow of x, and the integrals of its divergence.

        rho^2 = alpha^2 + (sigma / s)^2,   d ell_j / d(sigma / alpha) = alpha (div_j eps - div eps_G)

    with s = sigma_data, and eps_G that of Gaussian data N(0, s^2), whose integral is known. So the probability-flow ODE
    of z is that of an event with m more values, and every solver of it applies. For Gaussian data z / rho does not
    change at all. k^2 = (D + m) / m lets an error of ell count in the root mean square of z / rho as if it stood alone.

    Args:
        model: the inner model.
        divergence: m columns of it are integrated.
        draws: the random directions.
        event_shape: of the inner model.
        moves: takes each evaluation of a solver that has one time for all samples.
    """

    def __init__(
        self,
        model: Model,
        divergence: Divergence,
        draws: Draws,
        event_shape: tuple[int, ...],
        moves: Moves | None = None,
    ) -> None:
        super().__init__(model)
        self.moves = moves
        self.divergence, self.draws, self.shape = divergence, draws, tuple(event_shape)
        self.size, self.columns = math.prod(event_shape), divergence.columns
        self.sde, self.unit, self.sigma_data = InUnits(model.sde, model.sigma_data), model.sigma_data, 1.0
        self.event_shape = (self.size + self.columns,)
        self.scale = math.sqrt((self.size + self.columns) / self.columns)
        self._places: Tensor | None = None  # of the samples in the batch; None for all of them

    def of_samples(self, rows: Tensor) -> "Augmented":
        own = self.around(self.model.of_samples(rows))
        own._places = self.draws.places(rows) if self._places is None else self._places[rows.cpu()]
        return own

    def start(self, x: Tensor) -> Tensor:
        """z (B, D + m) for x (B, *event), with ell = 0; float64."""
        z = x.reshape(len(x), -1).double() / self.unit
        return torch.cat((z, z.new_zeros(len(z), self.columns)), dim=1)

    def parted(self, z: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """x (B, *event) and ell (B, m) of z at a time."""
        alpha, sigma, _ = self.sde.at(t)
        x, ell = z[:, : self.size] * self.unit, z[:, self.size :]
        return x.reshape(-1, *self.shape), ell / (self.scale * math.hypot(alpha, sigma))

    def gaussian(self, t: float, start: float) -> float:
        """The integral of div eps_G from one time to another, with the change of volume from x / alpha to x."""
        first, last = (math.hypot(*self.sde.at(at)[:2]) for at in (start, t))
        return self.size * math.log(last / first)

    def forward(self, z: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        alpha, sigma, _ = level = levels(self.sde, t)
        rho = (alpha**2 + sigma**2) ** 0.5
        linear = sigma / (rho**2 * self.unit)  # eps_G = linear x

        def field(x: Tensor) -> Tensor:
            return self.model(x, t, cond).combine(x=-linear, eps=1.0)

        x = (z[:, : self.size] * self.unit).reshape(-1, *self.shape)
        self.draws.evaluation += 1
        value, columns = self.divergence.of(field, x, partial(self._normal, x), self.draws.evaluation)
        if self.moves is not None:
            a, s, r = (float(c) for c in (alpha, sigma, rho))
            self.moves.add(math.atan2(s, a), z[:, : self.size] / r, value.reshape(len(z), -1).to(z) * (r / a))
        columns = columns.to(z) * expand(rho * (self.scale * self.unit), z)
        out = torch.cat((value.reshape(len(z), -1).to(z), columns), dim=1)
        return Prediction(z, out, self.sde, t, alpha / rho**2, -sigma / alpha, level=level)

    def _normal(self, x: Tensor, count: int, step: int) -> Tensor:
        drawn = self.draws.normal(x, count, step)
        return drawn if self._places is None else drawn[:, self._places.to(drawn.device)]
