"""What the steps of a sampler do to Gaussian data, which is known exactly before a network is asked."""

import contextvars
import copy
import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from scoresde.analytic import ExactModel
from scoresde.errors import InputError
from scoresde.mixture import GaussianMixture
from scoresde.progress import note
from scoresde.sampling.grid import Karras, LambdaUniform, NoiseShareUniform, TimeUniform
from scoresde.sde import SDE

_MOST = 1.7  # factor of the variance that is worth a sentence
_OTHERS = {"lambda": LambdaUniform(), "noise_share": NoiseShareUniform(), "karras": Karras(), "time": TimeUniform()}
_SAID: WeakKeyDictionary[SDE, set[tuple[str, str]]] = WeakKeyDictionary()  # samplers that were looked at, on each path


class _Units:
    """In row k of the batch the k-th number ever asked for is one; all others are zero."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, int], int] = {}

    def normal(
        self, purpose: str, step: int, shape: Sequence[int], device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        z, row = torch.zeros(*shape, dtype=dtype), self.asked.setdefault((purpose, step), len(self.asked))
        z[row : row + 1] = 1
        return z


@torch.no_grad()
def variance(sampler: Any, sde: SDE, std: float = 1.0) -> float:
    """The variance of samples over that of the data, if these are N(0, std^2) and the score is exact.

    Every rule on a fixed grid is linear then, so one run in which each random number in turn is one is enough.
    """
    model, rows, noise = ExactModel(GaussianMixture([1.0], [[0.0]], [[[std**2]]]), sde), 0, _Units()
    while rows < max(len(noise.asked), 1):  # until each number has its row
        rows, noise = max(len(noise.asked), 1), _Units()
        *_, (_, x) = sampler.path(model, sampler.prior(model, (1,), rows, noise, torch.float64), noise)
    return float(x.square().sum()) / std**2


def caution(sampler: Any, sde: SDE, std: float = 1.0) -> str:
    """A sentence if the steps are too few, or lie where this rule cannot use them; else nothing.

    Args:
        sampler: on a fixed grid, without a corrector, down to clean data; of others nothing is said.
        sde: the path.
        std: of the data.
    """
    if sampler.solver.adaptive or sampler.corrector is not None or not sampler.denoise:
        return ""
    found = _on(sampler, sampler.grid, sde, std)
    if not (found > _MOST or found < 1 / _MOST):  # or NaN
        return ""
    apart = {name: abs(math.log(_on(sampler, grid, sde, std))) for name, grid in _OTHERS.items()}
    best = min(apart, key=lambda name: math.inf if math.isnan(apart[name]) else apart[name])
    helps = apart[best] < abs(math.log(found)) / 2
    remedy = f"use grid={best}, or more steps" if helps else "use more steps"
    steps = "1 step" if sampler.steps == 1 else f"{sampler.steps} steps"
    where = f"{steps} of {sampler.solver.called} on {type(sampler.grid).__name__}"
    return f"with {where} the variance of Gaussian data becomes {found:.2g} times as large; {remedy}"


def _on(sampler: Any, grid: Any, sde: SDE, std: float) -> float:
    other = copy.copy(sampler)
    other.grid = grid
    try:
        return max(variance(other, sde, std), 1e-99)
    except Exception:  # there is no such grid on this path, or a custom solver needs another shape
        return math.nan


def say_once(sampler: Any, sde: SDE, std: float) -> None:
    """Write the caution on stderr; the evaluations of its model are not counted among others."""
    try:
        key = repr(sampler), repr(std)
    except InputError:  # a custom part that does not keep its arguments
        key = str(id(sampler)), repr(std)
    said = _SAID.setdefault(sde, set())
    if key not in said:
        said.add(key)
        if sentence := contextvars.Context().run(caution, sampler, sde, std):
            note(f"warning: {sentence}")
