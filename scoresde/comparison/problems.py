"""What samplers are compared on: a distribution with an exact score, a model with data, or a trained run."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scoresde.analytic import ExactModel, FiniteData
from scoresde.control.guidance import Label
from scoresde.data import Dataset, Transform
from scoresde.errors import InputError, require
from scoresde.metrics import nearest_neighbours
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.noise import Noise, derived_seed, permutation
from scoresde.runs import Run
from scoresde.sde import SDE


@runtime_checkable
class Source(Protocol):
    """What gives a data set: a class of `scoresde.data`."""

    def load(self) -> Dataset:
        """Read the data."""


class Problem(ABC):
    """What samplers are compared on.

    Attributes:
        name: for headings.
        transform: the map between model units and data units.
    """

    name: str
    transform: Transform

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.transform.event_shape)

    @property
    def distribution(self) -> GaussianMixture | FiniteData | None:
        """The distribution of the data where it is known."""
        return None

    @abstractmethod
    def model(self, sde: SDE | None, device: str) -> Model:
        """The model under an SDE, or under its own for None."""

    @abstractmethod
    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        """For each seed n real items as `train` and more as `heldout`, with which samples are compared."""

    def basin(self, x: Tensor) -> Tensor | None:
        """Where each endpoint (n, *event) has landed, int64 (n,): a component or a point; None if there are none."""
        return None

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """About the largest distance between two items, for SDEs that want it measured."""

    @property
    @abstractmethod
    def largest_n(self) -> int | None:
        """How many samples a seed may have, so that as many real items make the floor; None for any number."""

    @property
    def floor_is_independent(self) -> bool:
        """Whether the real items of two seeds have nothing in common, as far as the last call of `real` goes."""
        return True


class _Drawn(Problem):
    """A problem whose real data are drawn from a Gaussian mixture."""

    _distribution: GaussianMixture

    @property
    def distribution(self) -> GaussianMixture:
        return self._distribution

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        def draw(purpose: str, seed: int) -> Tensor:
            return self._distribution.sample(n, derived_seed(seed, purpose, 0)).float().cpu()

        return [Dataset(draw("floor", s), draw("real", s), self.transform) for s in seeds]

    def basin(self, x: Tensor) -> Tensor:
        return self._distribution.component(x)

    @property
    def sigma_max(self) -> float:
        return self.real(1000, [0])[0].sigma_max

    @property
    def largest_n(self) -> None:
        return None


class Mixture(_Drawn):
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

    def __init__(self, dimension: int = 2, components: int = 5, seed: int = 0) -> None:
        require(dimension >= 1, "dimension", dimension, "give an integer >= 1")
        require(components >= 1, "components", components, "give an integer >= 1")
        noise = Noise(seed)
        size = (components, dimension, dimension)
        axes, _ = torch.linalg.qr(noise.normal("axes", 0, size, dtype=torch.float64))
        spread = noise.uniform("spread", 0, components * dimension).reshape(components, dimension)
        variances = (0.15 + 0.25 * spread) ** 2
        means = noise.normal("means", 0, (components, dimension), dtype=torch.float64)
        self._distribution = GaussianMixture(
            0.5 + noise.uniform("weights", 0, components), means, (axes * variances[:, None]) @ axes.mT
        )
        self.dimension, self.components, self.seed = dimension, components, seed
        self.name = f"mixture of {components} Gaussians in {dimension} dimensions"
        self.transform = plain_transform((dimension,))

    def model(self, sde: SDE | None, device: str) -> Model:
        return _exact(self._distribution, sde, device)


class Finite(Problem):
    """The distribution that puts equal mass on each training item of a data set, with its exact score.

    A perfect sampler draws training items, so there is a right answer with real images; it says nothing of how well
    a network generalises.

    Args:
        data: a data source such as `scoresde.data.Digits`.
    """

    def __init__(self, data: Source) -> None:
        self.data = data

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data, read when they are first needed."""
        return self.data.load()

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{len(self.dataset.train):,} items of {type(self.data).__name__} as a finite distribution"

    @property
    def transform(self) -> Transform:  # type: ignore[override]
        return self.dataset.transform

    @functools.cached_property
    def distribution(self) -> FiniteData:
        return FiniteData(self.dataset.train)

    def model(self, sde: SDE | None, device: str) -> Model:
        return _exact(self.dataset.train, sde, device)

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        train, labels = self.dataset.train, self.dataset.train_labels

        def chosen(purpose: str, seed: int) -> Tensor:
            return (Noise(derived_seed(seed, purpose, 0)).uniform("item", 0, n) * len(train)).long()

        pairs = [(chosen("floor", s), chosen("real", s)) for s in seeds]
        known = [{} if labels is None else {"class": labels[a]} for a, _ in pairs]
        return [Dataset(train[a], train[b], self.transform, own) for (a, b), own in zip(pairs, known, strict=True)]

    def basin(self, x: Tensor) -> Tensor:
        return nearest_neighbours(x.double(), self.distribution.points)[1][:, 0]

    @property
    def sigma_max(self) -> float:
        return self.dataset.sigma_max

    @property
    def largest_n(self) -> None:
        return None


class _HeldOut(Problem):
    """A problem in which samples are compared with held-out items, and training items make the floor."""

    _independent = True

    @abstractmethod
    def _load(self) -> Dataset:
        """Read the data."""

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data, read when they are first needed."""
        return self._load()

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        train, labels = self.dataset.train, self.dataset.train_labels
        self._independent = n * len(seeds) <= len(train)
        whole = permutation(min(seeds), "floor", 0, len(train))
        sets = []
        for i, seed in enumerate(seeds):
            rows = whole[i * n : (i + 1) * n] if self._independent else permutation(seed, "floor", 1, len(train))[:n]
            own_labels = {} if labels is None else {"class": labels[rows]}
            sets.append(Dataset(train[rows], self.dataset.heldout, self.transform, own_labels))
        return sets

    @property
    def sigma_max(self) -> float:
        return self.dataset.sigma_max

    @property
    def largest_n(self) -> int:
        return len(self.dataset.train)

    @property
    def floor_is_independent(self) -> bool:
        return self._independent


class Given(_HeldOut):
    """Any model with real data.

    Args:
        model: trained here or wrapped, see `scoresde.wrap`; its device is where it is.
        dataset: real items in model units.
    """

    def __init__(self, model: Model, dataset: Dataset) -> None:
        self._model, self._data, self.transform = model, dataset, dataset.transform
        self.name = f"{_named(model)} and {len(dataset.heldout):,} held-out items"

    def _load(self) -> Dataset:
        return self._data

    def model(self, sde: SDE | None, device: str) -> Model:
        return _under(self._model, sde)


class GivenMixture(_Drawn):
    """Any model with a Gaussian mixture from which the real data are drawn.

    Exact endpoints are those of the mixture: the distance to them is an error of the sampler and of the model.

    Args:
        model: see `Given`.
        distribution: of the data.
    """

    def __init__(self, model: Model, distribution: GaussianMixture) -> None:
        self._model, self._distribution = model, distribution
        self.transform = plain_transform(distribution.event_shape)
        self.name = f"{_named(model)} and a Gaussian mixture"

    def model(self, sde: SDE | None, device: str) -> Model:
        return _under(self._model, sde)


def _named(model: Model) -> str:
    return f"{type(model).__name__} under {type(model.sde).__name__}"


def _under(model: Model, sde: SDE | None) -> Model:
    """The model under another SDE, if it can be."""
    if sde is None:
        return model
    moved = getattr(model, "under", None)
    if moved is None:
        raise InputError(f"sdes: {type(model).__name__} works under its own SDE only; leave sdes out")
    other: Model = moved(sde)
    return other


def plain_transform(event_shape: tuple[int, ...]) -> Transform:
    """Model units are data units."""
    points = event_shape == (2,)
    return Transform("points" if points else "image" if len(event_shape) == 3 else "table", event_shape)


class Trained(_HeldOut):
    """A trained run with the data of its training.

    Args:
        run: from `scoresde.load`.
        label: a class, or several that samples have in turn, held against real items of these; None for none.
        guidance: see `scoresde.Conditioned`.
    """

    def __init__(self, run: Run, label: Label = None, guidance: float = 1.0) -> None:
        self.run, self.name, self.transform = run, f"run {run.path}, step {run.step}", run.transform
        self.label, self.guidance = label, guidance
        self.name += "" if label is None else f", label {label}, guidance {guidance:g}"
        run.told(run.model, label, guidance)  # which refuses a label before the data are read

    def _load(self) -> Dataset:
        dataset = self.run.dataset()
        if self.label is None:
            return dataset
        return dataset.of_classes(self.label if isinstance(self.label, list) else [self.label])

    def model(self, sde: SDE | None, device: str) -> Model:
        own = self.run.model
        return self.run.told(own if sde is None else own.under(sde), self.label, self.guidance)


def _exact(data: Any, sde: SDE | None, device: str) -> Model:
    if sde is None:
        raise InputError("sde: an exact problem needs one; give sde=vp")
    return ExactModel(data, sde).to(device).eval()
