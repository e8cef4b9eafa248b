"""What samplers are compared on: a distribution with an exact score, a model with data, or a trained run."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from scoresde.analytic import ExactModel, FiniteData
from scoresde.comparison.guided import Guidance
from scoresde.comparison.reference import Distribution
from scoresde.constraints import Checked, Count, NonNegativeInt
from scoresde.data import Dataset, Transform
from scoresde.data.dataset import CLASS
from scoresde.errors import InputError, refuse
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.noise import Noise, derived_seed, permutation
from scoresde.results import Measurement, Quantity
from scoresde.sampling import Samples
from scoresde.sde import SDE


@runtime_checkable
class Source(Protocol):
    """What gives a data set: a class of `scoresde.data`."""

    def load(self) -> Dataset:
        """Read the data."""


class Problem(Checked, ABC):
    """What samplers are compared on.

    Attributes:
        name: for headings.
        transform: the map between model units and data units.
        distribution: of the data, where it is known.
        largest_n: how many samples a seed may have, so that as many real items make the floor; None for any number.
        quantities: what `measured` may measure.
    """

    name: str
    transform: Transform
    distribution: Distribution | None = None
    largest_n: int | None = None
    quantities: Sequence[Quantity] = ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.transform.event_shape)

    @property
    def sigma_max(self) -> float:
        """About the largest distance between two items, for SDEs that measure it."""
        return self.real(1000, [0])[0].sigma_max

    @property
    def default_sdes(self) -> str | dict[str, SDE | None]:
        """The SDEs to sample under where none are given: VP, or that of the model, for which None stands."""
        return "vp"

    @abstractmethod
    def model(self, sde: SDE | None, device: str) -> Model:
        """The model under an SDE, or under its own for None."""

    def asked(self, model: Model, method: Any, seed: int) -> Model:
        """The model of a seed, by the method of a candidate: of posterior sampling, or guidance; as it is for None.

        Raises:
            InputError: a method that this problem does not have.
        """
        if isinstance(method, Guidance):
            raise InputError(
                "guidance: this problem has no classes; give run= of a run with classes, or problem=mixture_classes"
            )
        refuse(method is not None, "posteriors: nothing is observed; give problem=inverse_mixture or another inverse_*")
        return model

    def target(self, method: Any) -> "Problem":
        """The problem with whose real data samples by a method are compared."""
        return self

    def measured(self, drawn: Samples, seed: int, method: Any, real: Dataset) -> dict[str, Measurement]:
        """What is known of samples of a seed besides the metrics, see `quantities`.

        Args:
            drawn: the samples.
            seed: that they are of.
            method: that of the candidate.
            real: the real data of this seed.
        """
        return {}

    def notes(self, n: int, seeds: int) -> Iterator[str]:
        """What a reader must know about so many samples of so many seeds, a sentence each."""
        yield from ()

    def pictured(self) -> dict[str, list[np.ndarray]]:
        """Lines of a picture in data units by their names, in which each seed has an item; none where it has none."""
        return {}

    def pictured_of(self, drawn: Samples) -> dict[str, np.ndarray]:
        """What such a picture shows of the samples of a seed."""
        return {}

    @abstractmethod
    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        """For each seed n real items as `train` and more as `heldout`, with which samples are compared."""


class Exact(Problem):
    """A problem whose distribution gives the score."""

    @property
    def of_items(self) -> Distribution | None:
        """The distribution whose score it is."""
        return self.distribution

    def model(self, sde: SDE | None, device: str) -> Model:
        if sde is None:
            raise InputError("sde: an exact problem needs one; give sde=vp")
        assert self.of_items is not None
        return ExactModel(self.of_items, sde).to(device).eval()


class FromMixture(Problem):
    """A problem whose real data are drawn from a Gaussian mixture."""

    distribution: GaussianMixture

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        def draw(purpose: str, seed: int) -> Tensor:
            return self.distribution.sample(n, derived_seed(seed, purpose, 0)).float().cpu()

        return [Dataset(draw("floor", s), draw("real", s), self.transform) for s in seeds]


class Mixture(FromMixture, Exact):
    """A random Gaussian mixture in any dimension, the same for the same arguments, with its exact score.

    Its components have unequal weights and covariances with standard deviations from 0.15 to 0.4 in random directions;
    their means are drawn from N(0, I). So the components are apart in high dimensions and some overlap in few.

    Args:
        dimension: of one item.
        components: number of Gaussians.
        seed: which mixture.

    Raises:
        InputError: dimension or components < 1.
    """

    def __init__(self, dimension: Count = 2, components: Count = 5, seed: NonNegativeInt = 0) -> None:
        noise, size = Noise(seed), (components, dimension, dimension)
        axes, _ = torch.linalg.qr(noise.normal("axes", 0, size, dtype=torch.float64))
        spread = noise.uniform("spread", 0, components * dimension).reshape(components, dimension)
        variances = (0.15 + 0.25 * spread) ** 2
        means = noise.normal("means", 0, (components, dimension), dtype=torch.float64)
        weights = 0.5 + noise.uniform("weights", 0, components)
        self.distribution = GaussianMixture(weights, means, (axes * variances[:, None]) @ axes.mT)
        self.dimension, self.components, self.seed = dimension, components, seed
        self.name = f"mixture of {components} Gaussians in {dimension} dimensions"
        self.transform = plain_transform((dimension,))


class Finite(Exact):
    """The distribution that puts equal mass on each training item of a data set, with its exact score.

    A perfect sampler draws training items, so there are correct samples of real images; it says nothing about how well
    a network generalises.

    Args:
        data: a data source such as `scoresde.data.Digits`.
    """

    def __init__(self, data: Source) -> None:
        self.data, self.dataset = data, data.load()
        self.distribution, self.transform = FiniteData(self.dataset.train), self.dataset.transform
        self.name = f"{len(self.dataset.train):,} items of {name_of('data', data)} as a finite distribution"

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        def chosen(purpose: str, seed: int) -> Tensor:
            return (Noise(derived_seed(seed, purpose, 0)).uniform("item", 0, n) * len(self.dataset.train)).long()

        return [_some(self.dataset, chosen("floor", s), chosen("real", s)) for s in seeds]

    @property
    def sigma_max(self) -> float:
        return self.dataset.sigma_max


def _some(dataset: Dataset, rows: Tensor, others: Tensor | None = None) -> Dataset:
    """Some of the training items; held out are others of them, or the items that are held out anyway."""
    items, labels, heldout, real = dataset.train, dataset.train_labels, dataset.heldout, dataset.heldout_labels
    if others is not None:
        heldout, real = items[others], None if labels is None else labels[others]
    ours, theirs = ({} if part is None else {CLASS: part} for part in (None if labels is None else labels[rows], real))
    return Dataset(items[rows], heldout, dataset.transform, ours, theirs)


class _OfModel(Problem):
    """A problem of which there is a model."""

    _model: Model

    def model(self, sde: SDE | None, device: str) -> Model:
        return self._model if sde is None else self._model.under(sde)

    @property
    def default_sdes(self) -> str | dict[str, SDE | None]:
        return {name_of("sde", self._model.sde): None}


class Given(_OfModel):
    """Any model with real data: samples are compared with held-out items, and training items make the floor.

    Args:
        model: trained here or wrapped, see `scoresde.wrap`; it stays on its device.
        dataset: real items in model units.
        name: for headings; empty says what the model is.
    """

    def __init__(self, model: Model, dataset: Dataset, name: str = "") -> None:
        self._model, self.dataset, self.transform = model, dataset, dataset.transform
        self.name = name or f"{_title(model)} and {len(dataset.heldout):,} held-out items"
        self.largest_n = len(dataset.train)

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        total = len(self.dataset.train)
        if n * len(seeds) <= total:
            parts = list(permutation(min(seeds), "floor", 0, total)[: n * len(seeds)].reshape(-1, n))
        else:
            parts = [permutation(seed, "floor", 1, total)[:n] for seed in seeds]
        return [_some(self.dataset, rows) for rows in parts]

    def notes(self, n: int, seeds: int) -> Iterator[str]:
        yield "Real data are the held-out items, the same for all seeds: intervals do not include their choice."
        if n * seeds > len(self.dataset.train):
            yield "There are too few training items for disjoint floors, so the interval of the floor is too short."

    @property
    def sigma_max(self) -> float:
        return self.dataset.sigma_max


class GivenMixture(_OfModel, FromMixture):
    """Any model with a Gaussian mixture from which the real data are drawn.

    Exact endpoints are those of the mixture: the distance to them is an error of the sampler and of the model.

    Args:
        model: see `Given`.
        distribution: of the data.
    """

    def __init__(self, model: Model, distribution: GaussianMixture) -> None:
        self._model, self.distribution = model, distribution
        self.transform, self.name = plain_transform(distribution.event_shape), f"{_title(model)} and a Gaussian mixture"


def _title(model: Model) -> str:
    return f"{type(model).__name__} under {name_of('sde', model.sde)}"


def plain_transform(event_shape: tuple[int, ...]) -> Transform:
    """Model units are data units."""
    points = event_shape == (2,)
    return Transform("points" if points else "image" if len(event_shape) == 3 else "table", event_shape)
