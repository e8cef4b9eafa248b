"""Whether posteriors are calibrated: ranks of the truths of many observations among samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.checks.ranks import ranked, uniform
from scoresde.constraints import Count, NonNegativeInt, at_least, fitting
from scoresde.data.dataset import Dataset
from scoresde.errors import InputError
from scoresde.figures.ranks import histograms
from scoresde.files import aside, writing
from scoresde.kept import Arrays
from scoresde.likelihood.batches import OnStep, in_batches
from scoresde.likelihood.items import digest, with_conditions
from scoresde.model import Model
from scoresde.named import named
from scoresde.noise import Noise, derived_seed
from scoresde.observation import InUnits, Observation, in_units
from scoresde.posterior import Method, Posterior
from scoresde.results import Measurement, ModelMetric, Needs, Quantity
from scoresde.results.metric import evenly
from scoresde.sampling import Sampler

_RANKS = {
    "values": "the values of the truth",
    "distance": "its distance to a training item",
    "misfit": "|y - A(x)| of the truth",
}
_LEVEL = 0.05  # of the test, shared by the ranks
_INSIDE = "share of the values of the truth within the central {} % of the samples"


@dataclass(eq=False)
class Calibration(ModelMetric):
    """Whether posterior samples are as uncertain as they should be: ranks of truths over many observations.

    Each of n items is observed, y = A(truth) + sigma_y noise, and samples are drawn given y. If they are draws of
    p(x | y), any number of the truth has a uniform rank among those of its samples, and p % of the values lie within
    their central p %. Three ranks are tested: of each value; of the distance to a training item, which looks at all
    values together; and of |y - A(x)|, without which samples of the prior would pass.

    Held-out items test model and method together. `truths=drawn` takes items that the sampler itself draws from the
    model, and so tests the method alone. A test says how surely something is wrong; how wrong it is say the coverage
    and the spread of the ranks, 12 times the mean of (u - 1/2)^2: 1 if calibrated, more where posteriors are too
    narrow, less where they are too wide. Intervals are over items. Samples that depend on each other, as those of one
    population of `Twisted`, make ranks too extreme even if each is right.

    Args:
        observation: what is seen of an item, in the units of the data; or its name in conf/observation.
        posterior: the method; or its name in conf/posterior; None for `mmps`.
        sampler: what draws; None for the default one of the method.
        n: number of items, evenly spaced; all that there are if these are fewer.
        samples: of each posterior.
        truths: held-out items, or draws from the model.
        seed: of observations and samples.
        batch_size: items at a time, each with all its samples; it does not change the values.

    Raises:
        InputError: nothing is observed, or see `Posterior`.

    S. Talts et al. 2018 (arXiv 1804.06788), algorithm 1; distances as of P. Lemos et al. 2023 (arXiv 2302.03026),
    misfit as of M. Modrak et al. 2022 (arXiv 2211.02383), section 3.
    """

    observation: Observation | str | None = None
    posterior: Method | str | None = None
    sampler: Sampler | None = None
    n: Annotated[int, at_least(3), fitting(64)] = 200
    samples: Annotated[int, at_least(9), fitting(64)] = 100
    truths: Literal["heldout", "drawn"] = "heldout"
    seed: NonNegativeInt = 0
    batch_size: Count = 5

    quantities = (
        *(
            Quantity(f"coverage_{p}", f"{p} %", _INSIDE.format(p), note=f"0.{p // 10} if calibrated")
            for p in (50, 90)
        ),
        Quantity("rank_spread", "rank spread", "12 times the mean square of rank - 1/2",
                 note="1 if calibrated, more where posteriors are too narrow, less where they are too wide"),
        *(
            Quantity(f"p_{name}", f"p, {name}", f"p-value of uniform ranks of {words}", note="small: not calibrated")
            for name, words in _RANKS.items()
        ),
        Quantity("calibration_nfe", "evaluations", "network evaluations per posterior sample", brief=False),
        Quantity("calibration_products", "products", "products with its Jacobian, likewise", brief=False),
    )  # fmt: skip

    def needs(self) -> Needs:
        return Needs(heldout=3)

    def given(self, observation: Observation | None, posterior: Method | None, sampler: Sampler) -> Calibration:
        """With these where it says nothing itself."""
        return replace(
            self,
            observation=self.observation or observation,
            posterior=self.posterior or posterior,
            sampler=self.sampler or sampler,
        )

    def check(self, model: Model, dataset: Dataset) -> None:
        seen, own = self._seen(dataset), with_conditions(model, dataset, heldout=True)
        asked = Posterior(own, seen, torch.zeros(seen.seen), self.posterior)
        asked.suits(self.sampler or Sampler())

    def __call__(self, model: Model, dataset: Dataset, place: Path | None) -> Mapping[str, Measurement]:
        seen, index = self._seen(dataset), evenly(torch.arange(len(dataset.heldout)), self.n)
        own = with_conditions(model, dataset, heldout=True).of_samples(index)
        sampler, truth = self.sampler or Sampler(), dataset.heldout[index]
        if self.truths == "drawn":
            seed = derived_seed(self.seed, "truths", 0)
            truth = sampler.sample(own, dataset.event_shape, len(index), seed=seed).x.cpu()
        others = dataset.items[torch.arange(len(index)) * len(dataset.items) // len(index)]
        items = _Items(own, seen, truth, others, self.seed)
        whole = Posterior(own, seen, items.y, self.posterior)
        sampler = sampler.suited(whole, dataset.event_shape)
        of = digest(own, items.truth, items.y)
        with in_batches(self, "calibration", len(index), of, place) as compute:
            found = compute(
                "items", range(len(index)), partial(self._ranks, items, whole.method, sampler), sampler.steps + 1
            )
        ranks = {name: torch.from_numpy(found[name]) for name in _RANKS if name in found}
        if place is not None:
            _write(place, ranks)
        apart = (flat(ranks["values"]) - 0.5).abs()
        return {
            **{f"coverage_{p}": Measurement.mean((apart <= p / 200).double().mean(1).tolist()) for p in (50, 90)},
            "rank_spread": Measurement.mean((12 * apart.square()).mean(1).tolist()),
            **{f"p_{name}": Measurement(uniform(u)) for name, u in ranks.items()},
            **{f"calibration_{key}": Measurement(float(found[key].mean())) for key in ("nfe", "products")},
        }

    def warnings(self, found: Mapping[str, Measurement]) -> Sequence[str]:
        p = {name: found[f"p_{name}"].value for name in _RANKS if f"p_{name}" in found}
        bad = [f"{_RANKS[name]} (p = {value:.2g})" for name, value in p.items() if value < _LEVEL / len(p)]
        return [f"The posterior is not calibrated: ranks are not uniform of {', of '.join(bad)}."] if bad else []

    def _seen(self, dataset: Dataset) -> InUnits:
        """The observation in the units of the model."""
        own, transform = self.observation, dataset.transform
        if own is None:
            raise InputError("observation: nothing is observed; give observation=inpaint, or another one")
        if isinstance(own, str):
            about = {"event_shape": transform.event_shape, "names": transform.names}
            own = named("observation", own, runtime=about)
        return in_units(own, transform)

    def _ranks(self, items: _Items, rule: Method, sampler: Sampler, rows: range, on_step: OnStep) -> Arrays:
        """Ranks of some of the items."""
        first, count = rows.start * self.samples, len(rows) * self.samples
        # a sampler gives sample k the row k mod count
        item = rows.start + (torch.arange(count) - first) % count // self.samples
        asked = Posterior(items.model.of_samples(item), items.seen, items.y[item], rule)
        request: dict[str, Any] = {"seed": self.seed, "batch_size": count, "on_step": lambda _: on_step(len(rows))}
        drawn = sampler.sample(asked, items.truth.shape[1:], rows=range(first, first + count), **request)
        x = drawn.x.cpu().double().reshape(len(rows), self.samples, *drawn.x.shape[1:])
        noise, pairs = Noise(self.seed, rows), zip(items.numbers(x, rows), items.numbers(None, rows), strict=True)
        found = {
            name: ranked(some, own, noise.uniform(f"ties {name}", 0, own.shape)).numpy()
            for name, (some, own) in zip(_RANKS, pairs, strict=False)
        }
        return found | {"nfe": drawn.nfe, "products": drawn.products}


class _Items:
    """What is observed: truths (n, *event), y (n, *seen), and a training item for each, in the units of the model."""

    def __init__(self, model: Model, seen: InUnits, truth: Tensor, others: Tensor, seed: int) -> None:
        self.model, self.seen, self.truth = model, seen, truth
        self.others = others.double()
        with torch.no_grad():
            self.y = seen.measure(truth, Noise(seed))

    @torch.no_grad()
    def numbers(self, x: Tensor | None, rows: range) -> list[Tensor]:
        """Numbers of samples (k, L, *event) of some items, that of each value first; of None, those of the truths.

        The misfit is left out where there is no noise: it is zero then, but for rounding.
        """
        part = slice(rows.start, rows.stop)
        own = self.truth[part].double()[:, None] if x is None else x
        left = self.seen(own.flatten(0, 1)).unflatten(0, own.shape[:2]) - self.y[part].double()[:, None]
        found = [own.flatten(2), (own - self.others[part][:, None]).flatten(2).norm(dim=2)]
        found += [left.flatten(2).norm(dim=2)] if self.seen.sigma_y else []
        return [one[:, 0] for one in found] if x is None else found


def _write(place: Path, ranks: Mapping[str, Tensor]) -> None:
    """The ranks as ranks.npz, and their histograms."""
    arrays: dict[str, Any] = {name: u.numpy() for name, u in ranks.items()}
    with writing(place, "out"):
        place.mkdir(parents=True, exist_ok=True)
    with aside(place / "ranks.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    titles = {name: f"{_RANKS[name]}: p = {uniform(u):.2g}" for name, u in ranks.items()}
    histograms(arrays, titles, place / "ranks.png")
