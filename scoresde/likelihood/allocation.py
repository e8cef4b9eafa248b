"""How many random directions each evaluation of a likelihood takes."""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from scoresde.divergence import Divergence, Hutchinson
from scoresde.divergence.base import Normal
from scoresde.divergence.products import Field
from scoresde.errors import InputError, refuse
from scoresde.likelihood.likelihood import Likelihood
from scoresde.model import Model
from scoresde.noise import derived_seed


@dataclass(frozen=True, repr=False)
class _Differences(Divergence):
    """In column k the difference of two estimates at evaluation k, so that its integral has the weight of that one."""

    columns: int
    fresh: bool = True

    def of(self, field: Field, x: Tensor, normal: Normal, evaluation: int) -> tuple[Tensor, Tensor]:
        value, pair = Hutchinson(2, fresh=True).of(field, x, normal, evaluation)
        found = pair.new_zeros(len(x), self.columns)
        found[:, evaluation] = pair[:, 0] - pair[:, 1]
        return value, found

    def products(self, size: int) -> float:
        return 2

    def estimate(self, integrals: Tensor) -> tuple[Tensor, Tensor]:
        return integrals.sum(1), integrals  # as the error of each evaluation


def allocated(likelihood: Likelihood, model: Model, x: Tensor, *, seed: int = 0, at: float | None = None) -> Likelihood:
    """The likelihood with more random directions where they matter: n_k of them at evaluation k, as many in all.

        n_k ~ |W_k| s_k,   at least one in each group

    W_k is the weight of evaluation k in the integral, and s_k the standard deviation of one direction there. Both are
    measured together on some items, at two products for each evaluation. Numbers that know nothing of the directions
    leave the estimates unbiased.

    Args:
        likelihood: its divergence is a `Hutchinson` with fresh directions.
        model: what predicts.
        x: some items (n, *event), such as 32.
        seed: of the measurement.
        at: the cut-off, see `Likelihood`.

    Raises:
        InputError: another divergence, or one probe in each group.
    """
    kind = likelihood.divergence
    if not (isinstance(kind, Hutchinson) and kind.fresh):
        raise InputError("divergence: only fresh directions can be shared out; give Hutchinson(..., fresh=True)")
    refuse(kind.probes == kind.columns, "divergence.groups: each has one probe, with none to share; give fewer groups")
    evaluations = round(likelihood(model, x[:1], at=at).nfe / model.cost)
    pilot = _with(likelihood, _Differences(evaluations))
    found = pilot(model, x, seed=derived_seed(seed, "allocation", 0), at=at)
    variances, counts = found.error.square().mean(0).cpu().numpy(), np.ones(evaluations, dtype=int)
    # other items change suddenly one evaluation earlier or later
    variances = np.convolve(np.pad(variances, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    for _ in range(evaluations * (kind.probes // kind.columns - 1)):
        counts[np.argmax(variances / (counts * (counts + 1)))] += 1
    return _with(likelihood, replace(kind, counts=tuple(counts.tolist())))


def _with(likelihood: Likelihood, divergence: Divergence) -> Likelihood:
    return Likelihood(likelihood.solver, likelihood.grid, divergence, likelihood.steps)
