"""Loops of diffusers and azula: their samplers from their own starts, on any denoiser."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
_FAR = 1e-6  # of the signal, in place of none


class Drawn(NamedTuple):
    """What a peer drew from standard normal numbers z.

    Attributes:
        x: the samples.
        scale: of its start, y = scale z where y = x / alpha.
        ratio: sigma / alpha there.
    """

    x: Tensor
    scale: float
    ratio: float


class Peer(Protocol):
    """A sampler of another library."""

    def __call__(self, denoise: Denoise, z: Tensor, budget: int) -> Drawn:
        """Draw samples.

        Args:
            denoise: x0_hat(y, r) for y = x / alpha (B, *event) and r = sigma / alpha.
            z: standard normal numbers (B, *event).
            budget: evaluations, roughly: what is spent is counted at `denoise`.

        Raises:
            ValueError, IndexError, RuntimeError: it has no such number of steps.
        """


@dataclass(frozen=True)
class Scheduler:
    """A scheduler of diffusers, which has its number of steps from the budget.

    Attributes:
        scheduler: the object.
        kind: what its state and the output of its network are: `vp` (x with alpha^2 + sigma^2 = 1, eps), `sigma` (y,
            eps), `edm` (y, the raw output of EDM's network), `flow` (x with alpha + sigma = 1, velocity), or `numbered`
            (x as for `vp`, of a scheduler without sigmas).
        cost: evaluations of a step, but for the last of several.
    """

    scheduler: Any
    kind: str
    cost: int = 1

    def __call__(self, denoise: Denoise, z: Tensor, budget: int) -> Drawn:
        """See `Peer`."""
        scheduler, start = self.scheduler, None
        scheduler.set_timesteps((budget + self.cost - 1) // self.cost, device=z.device)
        if self._last > 0:
            scheduler.set_timesteps((budget + self.cost - 2) // self.cost, device=z.device)
        scheduler.is_scale_input_called = True
        x = z
        for t in scheduler.timesteps:
            alpha, r = self._level(t)
            if start is None:
                start = Drawn(z, float(scheduler.init_noise_sigma) / alpha if self.kind != "flow" else 1 / alpha, r)
                x = z * start.scale * alpha
            y = x / alpha
            x = scheduler.step(self._output(denoise(y, r), y, alpha, r), t, x).prev_sample.to(z.dtype)
        assert start is not None
        if self._last > 0:  # what is left is removed as ours do, at the price of an evaluation
            alpha, r = self._at(self._last)
            x = denoise(x / alpha, r)
        return start._replace(x=x)

    @property
    def _last(self) -> float:
        """The level at which the steps end."""
        return 0.0 if self.kind == "numbered" else float(self.scheduler.sigmas[-1])

    def _level(self, t: Any) -> tuple[float, float]:
        """alpha of the state and sigma / alpha, at a timestep."""
        if self.kind == "numbered":
            signal = float(self.scheduler.alphas_cumprod[int(t)])
            return signal**0.5, (1 / signal - 1) ** 0.5
        if self.scheduler.step_index is None:
            self.scheduler._init_step_index(t)
        return self._at(float(self.scheduler.sigmas[self.scheduler.step_index]))

    def _at(self, sigma: float) -> tuple[float, float]:
        if self.kind == "flow":
            alpha = max(1 - sigma, _FAR)
            return alpha, sigma / alpha
        return ((1 + sigma**2) ** -0.5 if self.kind == "vp" else 1.0), sigma

    def _output(self, x0: Tensor, y: Tensor, alpha: float, r: float) -> Tensor:
        """What the network gives where x0 is predicted."""
        if self.kind == "edm":
            skip: Tensor = self.scheduler.precondition_outputs(y, torch.zeros_like(y), r)
            return (x0 - skip) / float(self.scheduler.precondition_outputs(torch.zeros(1), torch.ones(1), r))
        eps: Tensor = (y - x0) / r
        return eps - x0 if self.kind == "flow" else eps


@dataclass(frozen=True)
class Azula:
    """A sampler of azula, on one of its schedules.

    Attributes:
        rule: a class of `azula.sample`.
        schedule: of `azula.noise`.
        settings: of the rule.
        denoised: whether the last evaluation removes the noise that is left.
        cost: evaluations of a step.
    """

    rule: Any
    schedule: Any
    settings: dict[str, Any]
    denoised: bool = True
    cost: int = 1

    def __call__(self, denoise: Denoise, z: Tensor, budget: int) -> Drawn:
        """See `Peer`."""
        from azula.denoise import Denoiser, DiracPosterior

        schedule = self.schedule

        class Given(Denoiser):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.schedule = schedule

            def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
                alpha, sigma = (float(c) for c in schedule(t))
                return DiracPosterior(denoise(x_t / alpha, sigma / alpha))

        steps = (budget - self.denoised) // self.cost
        (alpha, sigma), (end, last) = (
            [float(c) for c in schedule(torch.tensor(t, dtype=torch.float64))] for t in (1.0, 0.0)
        )
        x = self.rule(Given(), steps=steps, silent=True, dtype=torch.float64, **self.settings)(z * sigma)
        return Drawn(denoise(x / end, last / end) if self.denoised else x, sigma / alpha, sigma / alpha)
