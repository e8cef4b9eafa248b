"""Other constants of `Auto` and its grid: what could have been chosen instead."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from torch import Tensor

from scoresde import Auto, Sampler, Terminal
from scoresde.model import Model
from scoresde.sampling import auto, candidates
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.solver import NoiseSource, Path


@dataclass(frozen=True)
class Setting:
    """Constants of `Auto` and of `Terminal`.

    Attributes:
        low, high: of the grid, where `high` is times the default.
        memory, ridge: of the weights.
        again: whether the step before is made again.
        finer: also x0 near 0.01, for detail of that size.
    """

    low: float = 0.04
    high: float = 1.0
    memory: float = auto._MEMORY
    ridge: float = auto._RIDGE
    again: bool = True
    finer: bool = False

    def sampler(self, model: Model, steps: int) -> Sampler:
        return Sampler(_Other(setting=self), Terminal(self.low, self.high * Terminal().scaled(model).highest), steps)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The constants in force."""
        finer = candidates._made("x0", candidates._levelled(0.01), " near 0.01", 2, 4)
        chosen = candidates.CANDIDATES + finer * self.finer
        candidates._all_rows.cache_clear()
        with (
            mock.patch.multiple(auto, _MEMORY=self.memory, _RIDGE=self.ridge),
            mock.patch.object(candidates, "CANDIDATES", chosen),
        ):
            yield
        candidates._all_rows.cache_clear()


@dataclass(frozen=True, repr=False)
class _Other(Auto):
    """`Auto` with a setting."""

    setting: Setting = Setting()

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        with self.setting.applied():
            rule = auto.Combination(model.sigma_data, again=self.setting.again)
            yield from rule.carry(model, times, x, noise, corrector)


_CHANGES: tuple[dict[str, Any], ...] = (
    {}, {"memory": 0.6}, {"memory": 0.9}, {"ridge": 0.1}, {"ridge": 1.0}, {"again": False}, {"finer": True},
)  # fmt: skip
SETTINGS = {
    " ".join(f"{k}={v:g}" for k, v in {"low": low, "high": high, **change}.items()): Setting(low, high, **change)
    for low, high, change in itertools.product((0.02, 0.04, 0.08), (0.6, 1.0, 1.6), _CHANGES)
}
