"""The likelihood of held-out items as a metric of a model, with its terms and the sources of its error."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from scoresde.chains import BinomialChain
from scoresde.constraints import Count, NonNegativeInt, Positive, at_least, fitting
from scoresde.data.dataset import Dataset
from scoresde.divergence import Divergence
from scoresde.errors import refuse, require
from scoresde.files import aside, writing
from scoresde.likelihood.allocation import allocated
from scoresde.likelihood.batches import in_batches
from scoresde.likelihood.dequantise import Bounds, Kind, bounds
from scoresde.likelihood.items import Terms, cut_off, digest, levels_of, with_conditions
from scoresde.likelihood.likelihood import Likelihood
from scoresde.loss import BinomialBound
from scoresde.loss.bound import Levels
from scoresde.model import Model
from scoresde.results import Measurement, ModelMetric, Needs, Quantity
from scoresde.results.interval import TWO_SIDED
from scoresde.sampling import Grid, Solver
from scoresde.sde import SDE

Name = Literal["auto", "truncated_normal", "uniform", "none"]
_KINDS: dict[Name, tuple[Kind, ...]] = {
    "auto": ("truncated_normal", "uniform"),
    "truncated_normal": ("truncated_normal",),
    "uniform": ("uniform",),
    "none": (),
}
_MOST, _SHARE = 8, 0.25  # items that are solved again with twice the steps, and of the evaluations that they take
_ENDS = {"reconstruction": "reconstruction", "prior_mismatch": "prior"}
_BITS = {"bits_per_dim": "nats", "bits_error_steps": "nats_error_steps"}
_NATS = partial(Quantity, unit="nats per item")


@dataclass(eq=False)
class NegativeLogLikelihood(ModelMetric):
    """-log p of held-out items under the probability-flow ODE, in nats per item, with its terms and its errors.

    Of quantised data p is a probability, bounded by `scoresde.likelihood.dequantise`: the value is the bound with
    importance weights, and bits per dimension are those of levels. Of other data p is a density in data units.
    Intervals are over items, which contains all sources of error but the steps; each is given as a standard error.
    Errors of probes shift a weighted bound by half of the variance in which they differ between draws, so the draws of
    an item have the same probes.

    The error of the steps is a bias. Some items, evenly spaced, are solved again in their first draw, with twice the
    steps: as many as take a quarter of the evaluations of all trajectories, but at most 8 and at least 2. The mean of
    what these add is given with its interval. A solver that chooses its own steps has a tolerance instead.

    Args:
        solver: see `Likelihood`; or a name of conf/solver.
        grid: likewise; or a name of conf/grid.
        divergence: likewise; or a name of conf/divergence.
        steps: of the solver.
        pilot: first items on which fresh random directions are shared out among the evaluations, see
            `scoresde.likelihood.allocated`; 0 gives each evaluation as many.
        dequantisation: `auto` is truncated_normal, with the distance to uniform; of a run trained with
            `trainer.dequantise` it is uniform, with this distance; and none of data without levels.
        at: time of the cut-off. None is t_train of the SDE; of quantised data it is the time at which half of a cell is
            3 standard deviations of the noise, if that is later: below it no network needs to know the density.
        bits: whether bits per dimension are asked for; None gives them where data are quantised.
        draws: of the dequantisation.
        bound_draws: times of each item at which the variational bounds are evaluated; 0 leaves them out.
        n: number of items, evenly spaced; all that there are if these are fewer.
        split: which items.
        seed: of the draws and the probes.
        batch_size: items at a time; it does not change the values.

    Raises:
        InputError: see `Likelihood`. From a call: data without levels where levels or bits are asked for, an item whose
            density is not finite, or a network that needs a condition which the data do not have.
    """

    solver: Solver | str | None = None
    grid: Grid | str | None = None
    divergence: Divergence | str | None = None
    steps: Annotated[int, at_least(1), fitting(1000)] = 50
    pilot: NonNegativeInt = 0
    dequantisation: Name = "auto"
    at: Positive | None = None
    bits: bool | None = None
    draws: Count = 1
    bound_draws: Annotated[int, at_least(0), fitting(64)] = 16
    n: Annotated[int, at_least(2), fitting(64)] = 300
    split: Literal["heldout", "train"] = "heldout"
    seed: NonNegativeInt = 0
    batch_size: Count = 100

    quantities = (
        _NATS("nats", words="negative log-likelihood", direction="lower"),
        Quantity("bits_per_dim", "bits/dim", "the same in bits per dimension", direction="lower"),
        _NATS("nats_error_items", "error, items", "standard error from the choice of items"),
        _NATS("nats_error_draws", "error, draws", "standard error from the draws of the dequantisation"),
        _NATS("nats_error_probes", "error, probes", "standard error from the probes of the divergence"),
        _NATS("nats_error_steps", "error, steps", "what twice the steps add, of up to 8 items"),
        Quantity("bits_error_steps", "error, steps, bits", "the same in bits per dimension"),
        _NATS("draws_gain", "draws gain", "what weights of the draws gain over their mean"),
        _NATS("uniform_gap", "uniform gap", "what uniform dequantisation gives more"),
        _NATS("reconstruction", "", "-log p(x_0 | x) from the cut-off"),
        _NATS("prior_mismatch", "prior mismatch", "KL of the noised items at T to the prior"),
        _NATS("nats_bound", "bound", "variational bound by the reverse SDE", direction="lower"),
        _NATS("nats_chain", "chain bound", "variational bound by the chain of its levels", direction="lower"),
        Quantity("likelihood_nfe", "evaluations", "network evaluations per trajectory", brief=False),
        Quantity("cut_off", "cut-off", "time of the cut-off", brief=False),
    )
    _means = tuple(q.key for q in quantities if "_error_" not in q.key)

    def __post_init__(self) -> None:
        self._likelihood = Likelihood.of(self.solver, self.grid, self.divergence, self.steps)
        refuse(bool(self.bits) and self.dequantisation == "none", "bits: true needs a dequantisation; give auto")

    def needs(self) -> Needs:
        return Needs(heldout=2, train=2)

    def check(self, model: Model, dataset: Dataset) -> None:
        if not isinstance(model, BinomialChain):
            self._plan(model, dataset)

    def _plan(self, model: Model, dataset: Dataset) -> tuple[Model, tuple[Kind, ...], Levels | None, float]:
        """The model with its conditions, the dequantisations, the levels, and the time where a trajectory begins."""
        model.needs_gaussian("likelihood")
        auto = self.dequantisation == "auto" and dataset.transform.levels is None
        kinds = () if auto else _KINDS[self.dequantisation][:: -1 if dataset.dequantised else 1]
        levels = levels_of(dataset.transform) if kinds or self.bits else None
        own = with_conditions(model, dataset, self.split == "heldout")
        return own, kinds, levels, self._cut_off(own.sde, levels)

    def __call__(self, model: Model, dataset: Dataset, place: Path | None) -> Mapping[str, Measurement]:
        heldout, transform = self.split == "heldout", dataset.transform
        items = dataset.heldout if heldout else dataset.items
        step = max(1, len(items) // self.n)
        rows = range(0, min(len(items), step * self.n), step)
        if isinstance(model, BinomialChain):
            return self._of_bits(model, items[torch.tensor(rows)])
        own, kinds, levels, at = self._plan(model, dataset)
        likelihood, some = self._likelihood, items[: self.pilot].to(own.device).double()
        likelihood = allocated(likelihood, own, some, seed=self.seed, at=at) if self.pilot else likelihood
        terms = Terms(own, items, likelihood, levels, kinds, self.draws, self.bound_draws, self.seed, at)
        of, again = digest(own, items[torch.tensor(rows)]), self._again(len(rows) * terms.solves, len(rows))
        key = f"{terms.deciding}_weight"
        with in_batches(self, "likelihood", len(rows) + len(rows[again]), of, place) as compute:
            found = compute("items", rows, terms.of, (self.steps + 1) * terms.solves)
            added = found[key][again, 0]
            if len(added):
                finer = Likelihood.of(self.solver, self.grid, self.divergence, 2 * self.steps)
                one = replace(terms, likelihood=finer, kinds=kinds[:1], draws=1, bound_draws=0)
                added = added - compute("steps", rows[again], one.of, 2 * self.steps + 1)[key][:, 0]
        of_items = _of_items(found, kinds, 0.0 if kinds else transform.log_volume)
        if place is not None:
            _write(place, {"index": np.array(rows), **of_items})
        measured = self._measured(of_items, added.tolist(), math.prod(transform.event_shape), kinds)
        measured |= {"likelihood_nfe": Measurement(float(found["nfe"].mean())), "cut_off": Measurement(at)}
        return {q.key: measured[q.key] for q in self.quantities if q.key in measured}

    def _again(self, solves: int, n: int) -> slice:
        """Which of n items are solved again with twice the steps."""
        count = 0 if self._likelihood.solver.adaptive else min(n, _MOST, max(2, int(_SHARE * solves / 2)))
        apart = n // max(count, 1)
        return slice(0, apart * count, apart)

    def warnings(self, found: Mapping[str, Measurement]) -> Sequence[str]:
        errors = {name: one.value for name, one in found.items() if name.startswith("nats_error_")}
        added, rest = errors.pop("nats_error_steps", 0.0), math.hypot(*errors.values())
        said = f"{self.steps} steps are too few: twice as many add {added:.3g} nats, the other errors are {rest:.3g}"
        wanted = f"give metrics.likelihood.steps={2 * self.steps} or more"
        return [f"{said}; {wanted}."] if abs(added) > rest else []

    def _cut_off(self, sde: SDE, levels: Levels | None) -> float:
        """Where a trajectory begins."""
        if self.at is None:
            return cut_off(sde, levels)
        inside = sde.t_train <= self.at < sde.t_start
        require(inside, "at", self.at, f"give a time from t_train = {sde.t_train:g} to {sde.t_start:g}")
        return self.at

    def _of_bits(self, model: BinomialChain, items: Tensor) -> dict[str, Measurement]:
        """The variational bound of a chain of bits, see `scoresde.loss.BinomialBound`."""
        bound = BinomialBound().summary(model, items, {}, self.seed)["bound"]
        value, half = bound["bits"], TWO_SIDED * bound["standard_error"]
        size = math.prod(items.shape[1:])
        return {
            "nats_bound": Measurement(value * math.log(2), half=half * math.log(2)),
            "bits_per_dim": Measurement(value / size, half=half / size),
        }

    def _measured(
        self, of: Mapping[str, Tensor], added: list[float], size: int, kinds: Sequence[Kind]
    ) -> dict[str, Measurement]:
        """The quantities from the terms of the items, and from what twice the steps add to some."""
        n, root = len(of["nats"]), math.sqrt(len(of["nats"]))
        found = {key: Measurement.mean(of[key].tolist()) for key in self._means if key in of}
        if added:
            found["nats_error_steps"] = Measurement.mean(added)
        if kinds and self.bits is not False:
            per, nats = size * math.log(2), {key: found[own] for key, own in _BITS.items() if own in found}
            found |= {key: Measurement(own.value / per, half=own.half / per) for key, own in nats.items()}
        total = float(of["nats"].std()) / root
        errors = {part: float(of[f"error_{part}"].square().sum().sqrt()) / n for part in ("draws", "probes")}
        rest = total**2 - sum(e**2 for e in errors.values() if not math.isnan(e))
        errors["items"] = math.sqrt(max(rest, 0.0))
        return found | {f"nats_error_{part}": Measurement(e) for part, e in errors.items() if not math.isnan(e)}


def _of_items(found: Mapping[str, np.ndarray], kinds: Sequence[Kind], volume: float) -> dict[str, Tensor]:
    """What is known of each item, in nats (n,).

    Args:
        found: terms, see `Terms.of`.
        kinds: of dequantisation.
        volume: what a density in data units has more than in model units.
    """
    known = {name: torch.from_numpy(values) for name, values in found.items()}
    of_kind: dict[str, Bounds] = {kind: bounds(known[f"{kind}_weight"]) for kind in kinds or ("density",)}
    deciding, first = next(iter(of_kind.items()))
    probes = (first.shares * known[f"{deciding}_error"]).sum(1)
    of = {"nats": volume - first.weighted, "error_draws": first.weighted_error, "error_probes": probes}
    if first.shares.shape[1] > 1:
        of["draws_gain"] = first.weighted - first.mean
    if len(kinds) > 1:
        of["uniform_gap"] = of_kind["truncated_normal"].weighted - of_kind["uniform"].weighted
    of |= {name: known[key] for name, key in _ENDS.items() if key in known}
    if "diffusion" in known:
        of["nats_bound"] = volume + known["prior"] + known["diffusion"].mean(1) + known["decoded"]
    if "chain" in known:
        of["nats_chain"] = volume + known["chain"].mean(1)
    return of


def _write(place: Path, columns: Mapping[str, Any]) -> None:
    """Write what is known of each item as items.npz and items.csv."""
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in columns.items()}
    with writing(place, "out"):
        place.mkdir(parents=True, exist_ok=True)
    with aside(place / "items.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    with aside(place / "items.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(arrays)
        rows.writerows(zip(*(values.tolist() for values in arrays.values()), strict=True))
