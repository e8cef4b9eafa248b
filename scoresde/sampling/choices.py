"""Which candidates `Auto` took: the weights of its steps, noted within a block and averaged over samples."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from scoresde.sampling.candidates import Candidate
from scoresde.sde import SDE

_Noted = list[tuple[float, tuple[Candidate, ...], Tensor]]
_NOTED: ContextVar[_Noted | None] = ContextVar("scoresde_choices", default=None)


class Choices(NamedTuple):
    """The share that each candidate of `Auto` has of each step: the mean of its weights over the samples.

    Attributes:
        names: of the C candidates, such as "x0 order 2 near 0.1": near that noise level its variable changes from the
            logarithm of the level to its square.
        levels: sigma / alpha where each of the N steps begins.
        shares: (N, C), float64 on the host; each row sums to one.
    """

    names: Sequence[str]
    levels: Sequence[float]
    shares: Tensor

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Self | None]]) -> Self | None:
        """The choices of the samples of several batches, each with its size; None if one of them has none."""
        known = [(n, own) for n, own in parts if own is not None]
        if not known or len(known) < len(parts):
            return None
        total = sum(n for n, _ in known)
        return known[0][1]._replace(shares=torch.stack([n / total * own.shares for n, own in known]).sum(0))

    @property
    def mean(self) -> dict[str, float]:
        """The share of each candidate of all steps, the largest first."""
        means = zip(self.names, self.shares.mean(0).tolist(), strict=True)
        return dict(sorted(means, key=lambda item: -item[1]))

    def content(self) -> dict[str, Any]:
        """As plain values for JSON."""
        shares = dict(zip(self.names, self.shares.T.tolist(), strict=True))
        return {"mean": self.mean, "levels": list(self.levels), "shares": shares}

    def __str__(self) -> str:
        return ", ".join(f"{share:.0%} {name}" for name, share in self.mean.items() if share >= 0.005)


@contextmanager
def noting() -> Iterator[_Noted]:
    """A list that gets (sigma / alpha, C candidates, mean weights (C,)) of each step of `Auto` within the block."""
    found: _Noted = []
    token = _NOTED.set(found)
    try:
        yield found
    finally:
        _NOTED.reset(token)


def note(sde: SDE, t: float, candidates: tuple[Candidate, ...], weights: Tensor) -> None:
    """Note the weights (C, B) of the candidates in a step from t, for those who look."""
    found = _NOTED.get()
    if found is not None:
        found.append((math.exp(-sde.at(t).lam), candidates, weights.mean(1)))


def choices_of(noted: _Noted) -> Choices | None:
    """What was noted, on the host; None if `Auto` took no step."""
    if not noted:
        return None
    levels, (candidates, *_), means = zip(*noted, strict=True)
    return Choices([c.name for c in candidates], levels, torch.stack(means).cpu().double())
