"""The terms of the likelihood of single items, computed batch by batch."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.control.guidance import conditioned
from scoresde.data.dataset import Dataset
from scoresde.data.transform import Transform
from scoresde.errors import InputError, refuse
from scoresde.evaluations import evaluating
from scoresde.likelihood import variational
from scoresde.likelihood.dequantise import Cells, Kind
from scoresde.likelihood.likelihood import Likelihood
from scoresde.loss.bound import Levels
from scoresde.model import Model
from scoresde.nets.condition import AUGMENT
from scoresde.noise import Noise
from scoresde.sde import SDE

_AnyKind = Kind | Literal["density"]
_WITHIN = 3.0  # standard deviations of noise that half of a cell holds: 99.7 % of it
_DENSITY: tuple[_AnyKind, ...] = ("density",)


def levels_of(transform: Transform) -> Levels:
    """The levels of quantised data in model units.

    Raises:
        InputError: the data have none, or each feature has levels of its own.
    """
    mean, scale, low, high = transform.mean, transform.scale, transform.low, transform.high
    if transform.levels is None or low is None or high is None:
        wanted = "they have a density in nats, and no bits/dim; give dequantisation=auto and bits=null"
        raise InputError(f"dequantisation: these data are not quantised, so {wanted}")
    if not (isinstance(mean, float | int) and isinstance(scale, float | int)):
        raise InputError("dequantisation: levels need one scale for all features; give dequantisation=none")
    return Levels(0.5 / scale, (low - mean) / scale, (high - mean) / scale)


def cut_off(sde: SDE, levels: Levels | None) -> float:
    """The time at which half of a cell is 3 standard deviations of the noise, and t_train of data without levels.

    Of a model that was trained on levels: below that time no network needs to know the density.
    """
    within = math.inf if levels is None else _WITHIN / levels.half
    return float(sde.t_of_lam(torch.tensor(math.log(within))).clamp(sde.t_train, sde.t_start))


def with_conditions(model: Model, dataset: Dataset, heldout: bool) -> Model:
    """The model with the conditions of the items where its network was never trained without them.

    Raises:
        InputError: the data have no such condition.
    """
    needed = [name for name, one in model.conditions.items() if name != AUGMENT and one.dropout == 0]
    known = dataset.heldout_conditions if heldout else dataset.conditions
    for name in needed:
        refuse(name not in known, f"data: the network always needs the condition {name}, which these data do not have")
    return conditioned(model, {name: known[name] for name in needed})


@dataclass(frozen=True)
class Terms:
    """Computes the terms of items, as functions of the seed and of the numbers of the items.

    Args:
        model: what predicts, with all conditions that it needs.
        items: all that there are (N, *event), in model units.
        likelihood: of the density at the cut-off.
        levels: of quantised data.
        kinds: dequantisations, the first one decides; none for a density.
        draws: of each dequantisation.
        bound_draws: of the variational bounds; 0 leaves them out.
        seed: of everything random.
        at: the cut-off.
    """

    model: Model
    items: Any
    likelihood: Likelihood
    levels: Levels | None
    kinds: tuple[Kind, ...]
    draws: int
    bound_draws: int
    seed: int
    at: float

    @property
    def cells(self) -> Cells:
        """Those of the levels."""
        assert self.levels is not None
        return Cells(2 * self.levels.half, *self.model.sde.at(self.at)[:2])

    @property
    def deciding(self) -> _AnyKind:
        """The dequantisation that decides."""
        return (*self.kinds, *_DENSITY)[0]

    @property
    def solves(self) -> int:
        """How many trajectories are computed of each item."""
        return len(self.kinds) * self.draws or 1

    def of(self, rows: range, on_step: Callable[[int], None]) -> dict[str, Any]:
        """The terms of some items, each with the items first.

            KIND_weight, KIND_error    log p - log q and the standard error of its probes, (B, draws); without a
                                       dequantisation KIND is `density`, and there is one draw
            prior, reconstruction      what a density at the cut-off leaves out, (B,)
            diffusion, chain           of the variational bounds, (B, bound_draws)
            decoded                    the reconstruction of the variational bound, (B,)
            nfe                        evaluations of the network per item and trajectory, a number

        Args:
            rows: numbers of the items.
            on_step: see `Likelihood`.
        """
        index, found = torch.tensor(rows), cast(dict[str, Any], {})
        x0, own = self.items[index].to(self.model.device).double(), self.model.of_samples(index)
        noise, nfe = Noise(self.seed, rows), []
        for kind in self.kinds or _DENSITY:
            weights, errors = [], []
            for k in range(self.draws if self.kinds else 1):
                x, log_q = self._drawn(kind, x0, noise, k)
                density = self.likelihood(self.model, x, seed=self.seed, rows=rows, at=self.at, on_step=on_step)
                weights.append(density.nats - log_q)
                errors.append(density.error)
                nfe.append(density.nfe)
            found |= {f"{kind}_weight": torch.stack(weights, 1), f"{kind}_error": torch.stack(errors, 1)}
        with torch.no_grad(), evaluating(self.model):
            found |= self._ends(own, x0, noise) | self._bounds(own, x0, noise)
        return {name: value.cpu().numpy() for name, value in found.items()} | {"nfe": math.fsum(nfe) / len(nfe)}

    def _drawn(self, kind: _AnyKind, x0: Tensor, noise: Noise, k: int) -> tuple[Tensor, Tensor | float]:
        """Items at the cut-off, and log q of them."""
        if kind == "density":
            return x0, 0.0
        u = noise.uniform("dequantisation", k, x0.shape).to(x0.device)  # the same for all kinds
        return self.cells.draw(kind, x0, u)

    def _ends(self, own: Model, x0: Tensor, noise: Noise) -> dict[str, Tensor]:
        """What the prior costs, the reconstruction of the density, and -log p(x_0 | x) of the bound."""
        prior, size = {"prior": variational.prior_mismatch(own, x0)}, x0[0].numel()
        if self.levels is None:
            decoded = variational.decoded(own, x0, noise, max(self.bound_draws, 1), self.at).mean(1)
            entropy = 0.5 * size * math.log(2 * math.pi * math.e * own.sde.at(self.at).sigma ** 2)
            return prior | {"decoded": decoded, "reconstruction": decoded - entropy}
        number = ((x0 - self.levels.first) / (2 * self.levels.half)).round().long()
        own_cost = self.cells.reconstruction if self.kinds[:1] == ("truncated_normal",) else 0.0
        costs = {"reconstruction": torch.full((len(x0),), size * own_cost)} if self.kinds else {}
        return prior | {"decoded": flat(self._costs.to(x0.device)[number]).sum(1)} | costs

    @cached_property
    def _costs(self) -> Tensor:
        """-log p(level | x) of each level."""
        assert self.levels is not None
        apart = 2 * self.levels.half
        return variational.level_costs(1 + round((self.levels.last - self.levels.first) / apart), self.cells.tau)

    def _bounds(self, own: Model, x0: Tensor, noise: Noise) -> dict[str, Tensor]:
        """The terms of the variational bounds that are drawn."""
        if not self.bound_draws:
            return {}
        found = {"diffusion": variational.diffusion(own, x0, noise, self.bound_draws, self.at)}
        if hasattr(own.sde, "last_level"):
            found["chain"] = variational.chain_bound(own, x0, noise, self.bound_draws, self.levels)
        return found


def digest(model: Model, *items: Tensor) -> str:
    """A hash of what a model predicts from, and of items."""
    found = hashlib.blake2b(f"{model.sde!r} {getattr(model, 'scale', 1.0)}".encode(), digest_size=16)
    for tensor in (*model.state_dict().values(), *items):
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
