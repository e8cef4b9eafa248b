"""One Brownian path for all stochastic samplers: their samples then differ by their errors and not by their noise.

The noise of the reverse process is a Brownian motion W in lam = log(alpha / sigma), whatever its kernel. A step from
lam_0 to lam_1 gets

    z = (W(lam_1) - W(lam_0)) / sqrt(lam_1 - lam_0)

W is a function of (seed, sample): values at the middle of an interval follow from those at its ends by Levy's bridge,
down to 2^16 parts of the range of lam, so that every grid sees the same path to that resolution.
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from scoresde.noise import Noise
from scoresde.sde import SDE

_LEVELS = 16


class BrownianPath:
    """W at the ticks 0 ... 2^16, with W(0) = 0 and variance 1 per tick, in float64.

    Args:
        noise: of these samples.
        shape: (B, *event).
        device: of the values.
    """

    def __init__(self, noise: Noise, shape: Sequence[int], device: torch.device | str) -> None:
        self._noise, self._shape, self._device = noise, tuple(shape), device
        last = 2**_LEVELS
        zero = torch.zeros(self._shape, dtype=torch.float64, device=device)
        # nested intervals (first tick, last tick, W at both); the next step usually needs the inner ones again
        self._nested = [(0, last, zero, math.sqrt(last) * self._draw(0))]

    def _draw(self, node: int) -> Tensor:
        return self._noise.normal("brownian", node, self._shape, self._device, torch.float64)

    def at(self, tick: int) -> Tensor:
        """W(tick), (B, *event)."""
        while not self._nested[-1][0] <= tick <= self._nested[-1][1]:
            self._nested.pop()
        while True:
            first, last, low, high = self._nested[-1]
            if tick in (first, last):
                return low if tick == first else high
            middle, depth = (first + last) // 2, _LEVELS - int(math.log2(last - first))
            node = 2**depth + first // (last - first)  # numbered as in a heap; 0 is the end of the whole range
            value = (low + high) / 2 + math.sqrt((last - first) / 4) * self._draw(node)
            self._nested.append((first, middle, low, value) if tick <= middle else (middle, last, value, high))


class SharedNoise:
    """A noise source whose steps of the solver follow one Brownian path; everything else is as in `Noise`.

    Two grid times that are closer than the resolution of the path get independent noise.

    Args:
        noise: of these samples.
        sde: whose lam is divided into ticks.
        times: (N + 1,), the grid of the sampler, falling.

    Attributes:
        seconds: time spent on the path so far, which a sampler alone would not spend.
        asked: whether the sampler drew noise after its start.
    """

    def __init__(self, noise: Noise, sde: SDE, times: Tensor) -> None:
        self._noise, self.seconds, self.asked = noise, 0.0, False
        self._path: BrownianPath | None = None
        first, last = float(sde.lam(sde.t_start)), float(sde.lam(sde.t_min))
        part = (sde.lam(times) - first) / (last - first)
        self._ticks: list[int] = (part.clamp(0, 1) * 2**_LEVELS).round().long().tolist()

    def normal(
        self, purpose: str, step: int, shape: Sequence[int], device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        """Standard normal numbers (B, *event) for a purpose and a step."""
        self.asked |= purpose != "prior"
        ticks = self._ticks[step : step + 2]
        if purpose != "solver" or len(ticks) < 2 or ticks[0] >= ticks[1]:
            return self._noise.normal(purpose, step, shape, device, dtype)
        began = time.perf_counter()
        if self._path is None:
            self._path = BrownianPath(self._noise, shape, device)
        z = (self._path.at(ticks[1]) - self._path.at(ticks[0])) / math.sqrt(ticks[1] - ticks[0])
        self.seconds += time.perf_counter() - began
        return z.to(dtype)
