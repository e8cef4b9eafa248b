"""Does the density of a model tell held-out items from others? The others, the areas under curves, and the metric."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import Count, NonNegativeInt, at_least, fitting
from scoresde.data.array import ArrayFile
from scoresde.data.dataset import Dataset, DataSource
from scoresde.data.transform import Transform
from scoresde.divergence import Divergence, Hutchinson
from scoresde.errors import InputError, refuse, require
from scoresde.figures.latent import densities, ranking
from scoresde.files import aside, writing
from scoresde.likelihood.batches import in_batches
from scoresde.likelihood.dequantise import Kind
from scoresde.likelihood.items import Terms, cut_off, digest, levels_of, with_conditions
from scoresde.likelihood.latent import StepCount
from scoresde.likelihood.likelihood import Likelihood
from scoresde.model import Model
from scoresde.noise import Noise
from scoresde.results import Measurement, ModelMetric, Needs, Quantity
from scoresde.results.interval import TWO_SIDED
from scoresde.results.metric import evenly
from scoresde.sampling import Grid, Solver

_ROUNDING = 1e-6
_SMALL, _PROBES = 16, 4  # values of an item up to which a trace is exact, and random directions of larger ones
_SETS = {
    "rotated": "held-out images turned by 90 degrees",
    "permuted": "held-out items whose values are in random order",
    "noise": "uniform numbers in the range of the data",
    "constant": "images of one level each",
    "against": "the data of `against`",
}
_KINDS = {"density": "by the density", "typicality": "by the distance of the log density to its mean"}


def others(x: Tensor, transform: Transform, noise: Noise) -> dict[str, Tensor]:
    """Items that are no data, as many as x (n, *event) in model units, by the name of their set.

    Images of squares are turned; images are also replaced by one level each; the values of any item are put into random
    order, and replaced by uniform numbers in the range of the data. All are on the levels of quantised data.
    """
    values = x.flatten(1)
    low, high = values.min(), values.max()
    found, image = {}, transform.kind == "image"
    if image and x.shape[-1] == x.shape[-2]:
        found["rotated"] = torch.rot90(x, 1, (-2, -1))
    order = noise.uniform("outliers order", 0, values.shape).argsort(1)
    found["permuted"] = values.gather(1, order).reshape(x.shape)
    u = noise.uniform("outliers", 0, values.shape).to(x)
    found["noise"] = _settled((low + (high - low) * u).reshape(x.shape), transform)
    if image:
        found["constant"] = _settled((low + (high - low) * u[:, :1]).expand_as(values).reshape(x.shape), transform)
    return found


def _settled(x: Tensor, transform: Transform) -> Tensor:
    """Items on the levels of quantised data."""
    return x if transform.levels is None else transform.encode(transform.decode(x).round())


def auroc(items: Tensor, others: Tensor) -> Measurement:
    """How often a score of items (n,) is above one of others (m,), ties counted as one half, with a 95 % interval.

    It is the area under the receiver operating characteristic: 1/2 if the scores tell nothing. The interval is that of
    Newcombe 2006 (Statistics in Medicine 25, part 2, method 5), which holds at an area of 1 too:

        |A - a| = z sqrt(a (1 - a) [1 + k (1 - a) / (2 - a) + k a / (1 + a)] / (n m)),   k = (n + m) / 2 - 1
    """
    n, m = len(items), len(others)
    below = torch.searchsorted(others.sort().values, items, right=False)
    upto = torch.searchsorted(others.sort().values, items, right=True)
    area = float((below + upto).double().mean()) / (2 * m)
    k = (n + m) / 2 - 1

    def within(a: float) -> bool:
        variance = a * (1 - a) * (1 + k * (1 - a) / (2 - a) + k * a / (1 + a)) / (n * m)
        return abs(area - a) <= TWO_SIDED * math.sqrt(variance)

    return Measurement(area, half=max(_reach(area, end, within) for end in (0.0, 1.0)))


def _reach(area: float, end: float, within: Callable[[float], bool]) -> float:
    """The distance to the last value within, on the way from the area to one end."""
    inside, outside = area, end
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if within(middle) else (inside, middle)
    return abs(inside - area)


def atypical(own: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """|log p - mean| of held-out items (n,) and of others (m,), with the sign turned so that items are above.

    The mean is that of the held-out items; for one of these, that of all but itself, or it would seem too typical.
    E. Nalisnick et al. 2019 (arXiv 1906.02994), eq. 4, for single items.
    """
    rest = (own.sum() - own) / (len(own) - 1)
    return -(own - rest).abs(), -(theirs - own.mean()).abs()


@dataclass(eq=False)
class Outliers(ModelMetric):
    """How well the density of a model tells held-out items from items that are no data: areas under curves.

    Densities are probabilities of levels where data are quantised, see `scoresde.likelihood.dequantise`. A simple item
    may well be more likely than the data: a network that was trained on clothes gives digits a higher density
    (Nalisnick et al. 2019, arXiv 1810.09136), and constant images a higher one still. An area below 1/2 by the density
    shows that; by the distance of a log density to the mean of the held-out items they still differ. Neither is
    proof that an item is data.

    Args:
        solver: see `Likelihood`; or a name of conf/solver.
        grid: likewise; or a name of conf/grid.
        divergence: likewise; or a name of conf/divergence. None for the exact trace of items of at most 16 values, and
            four random directions of others, whose errors are small beside what items differ by.
        steps: of the solver.
        dequantise: spread items uniformly over the cells of their levels, and follow the model down to t_train;
            otherwise their noise is that of the cut-off of quantised data, kept within the cells, see
            `NegativeLogLikelihood`. None does so if the training did.
        against: further items: a data set, or a file of an array in data units, see `scoresde.data.ArrayFile`.
        n: items of each set; all that there are if these are fewer.
        seed: of the other items, the dequantisation and the probes.
        batch_size: items at a time; it does not change the values.

    Raises:
        InputError: see `Likelihood`. From a call: `against` has items of another shape, or outside the range of the
            data; or an item whose density is not finite.
    """

    solver: Solver | str | None = None
    grid: Grid | str | None = None
    divergence: Divergence | str | None = None
    steps: StepCount = 50
    dequantise: bool | None = None
    against: DataSource | str | None = None
    n: Annotated[int, at_least(2), fitting(64)] = 200
    seed: NonNegativeInt = 0
    batch_size: Count = 100

    quantities = tuple(
        Quantity(f"auroc_{kind}_{name}", f"{kind}, {name}", f"area under the curve {how}, {words}", direction="higher")
        for name, words in _SETS.items()
        for kind, how in _KINDS.items()
    )

    def __post_init__(self) -> None:
        self._exact = Likelihood.of(self.solver, self.grid, self.divergence, self.steps)
        few = Hutchinson(_PROBES) if self.divergence is None else self.divergence
        self._estimate = Likelihood.of(self.solver, self.grid, few, self.steps)

    def needs(self) -> Needs:
        return Needs(heldout=2)

    def check(self, model: Model, dataset: Dataset) -> None:
        model.needs_gaussian("outliers")
        self._against(dataset.transform, self.n)
        if dataset.transform.levels is not None:
            levels_of(dataset.transform)

    def __call__(self, model: Model, dataset: Dataset, place: Path | None) -> Mapping[str, Measurement]:
        if self.dequantise is None:
            return replace(self, dequantise=dataset.dequantised)(model, dataset, place)
        self.check(model, dataset)
        transform, index = dataset.transform, evenly(torch.arange(len(dataset.heldout)), self.n)
        x = dataset.heldout[index]
        sets = others(x, transform, Noise(self.seed)) | self._against(transform, len(x))
        own = with_conditions(model, dataset, heldout=True).of_samples(index)
        of, total = digest(own, x, *sets.values()), len(x) + sum(map(len, sets.values()))
        with in_batches(self, "outliers", total, of, place) as compute:
            real = self._log_p(own, x, transform, partial(compute, "held-out"))
            found = {name: self._log_p(own, items, transform, partial(compute, name)) for name, items in sets.items()}
        values: dict[str, Measurement] = {}
        for name, nats in found.items():
            values[f"auroc_density_{name}"] = auroc(real, nats)
            values[f"auroc_typicality_{name}"] = auroc(*atypical(real, nats))
        if place is not None:
            self._write(place, x, transform, {"held-out": real, **found}, values)
        return values

    def _against(self, transform: Transform, most: int) -> dict[str, Tensor]:
        """The items of `against` in the model units of the run."""
        if self.against is None:
            return {}
        source = ArrayFile(path=self.against) if isinstance(self.against, str) else self.against
        try:
            other = source.load()
        except InputError as error:  # of data in general
            raise InputError(str(error).replace("data.path", "against")) from None
        shape, wanted = other.event_shape, tuple(transform.event_shape)
        require(shape == wanted, "against", shape, f"give items of shape {wanted}, as those of the run")
        x = other.transform.decode(evenly(other.train, most).double())
        least, largest = float(x.min()), float(x.max())
        low, high = (
            own if own is not None else end for own, end in ((transform.low, least), (transform.high, largest))
        )
        outside = (
            f"against: values from {least:.6g} to {largest:.6g} are outside {low:g} to {high:g}, the range of the data"
        )
        refuse(least < low - _ROUNDING or largest > high + _ROUNDING, f"{outside}; rescale them")
        return {"against": _settled(transform.encode(x).float(), transform)}

    def _log_p(self, model: Model, x: Tensor, transform: Transform, compute: Callable[..., Any]) -> Tensor:
        """Log probabilities of quantised items (n, *event), log densities in data units of others, in nats."""
        levels = None if transform.levels is None else levels_of(transform)
        kinds: tuple[Kind, ...] = ("uniform" if self.dequantise else "truncated_normal",) if levels else ()
        likelihood = self._exact if x[0].numel() <= _SMALL else self._estimate
        at = cut_off(model.sde, None if self.dequantise else levels)
        terms = Terms(model, x, likelihood, levels, kinds, 1, 0, self.seed, at)
        found = compute(range(len(x)), terms.of, self.steps + 1)[f"{terms.deciding}_weight"]
        return torch.from_numpy(found[:, 0]) - (0.0 if levels else transform.log_volume)

    def _write(
        self,
        place: Path,
        x: Tensor,
        transform: Transform,
        nats: Mapping[str, Tensor],
        values: Mapping[str, Measurement],
    ) -> None:
        """Histograms, the ranking of the held-out items, and the log densities of all sets as densities.npz."""
        with writing(place, "out"):
            place.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: found.numpy() for name, found in nats.items()}
        titles = {
            name: f"{name}: {values[f'auroc_density_{name}'].value:.3f} by density,\n"
            f"{values[f'auroc_typicality_{name}'].value:.3f} by typicality"
            for name in list(nats)[1:]
        }
        unit = "log density" if transform.levels is None else "log probability"
        densities(arrays, titles, f"{unit} in nats", place / "outliers.png")
        if transform.kind == "image":
            ranking(x, nats["held-out"], transform, place / "ranking.png")
        with aside(place / "densities.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
