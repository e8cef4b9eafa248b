"""Metrics of a model itself, such as its likelihood of held-out data, and not of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde.constraints import Checked
from scoresde.results.metric import Measurement, Needs, Quantity

if TYPE_CHECKING:
    from scoresde.data.dataset import Dataset


class ModelMetric(Checked, ABC):
    """Measures quantities of a model. A subclass writes `quantities` and `__call__`, perhaps the others."""

    quantities: Sequence[Quantity] = ()

    def needs(self) -> Needs:
        """How many held-out items and training items there must be; the number of samples plays no part."""
        return Needs()

    def check(self, model: Any, dataset: "Dataset") -> None:
        """Raise InputError for a model or data that it cannot measure, before any metric takes its time."""

    def warnings(self, found: Mapping[str, Measurement]) -> Sequence[str]:
        """What makes these values unreliable and how to help it, a sentence each."""
        return ()

    @abstractmethod
    def __call__(self, model: Any, dataset: "Dataset", place: Path | None) -> Mapping[str, Measurement]:
        """The value of each quantity, by its key, with the floor if it has one.

        Args:
            model: a `scoresde.Model`, on its device.
            dataset: the real items in model units.
            place: folder for pictures (PNG), and in `parts` for what is needed to go on after a kill, which is removed
                when the whole evaluation is done; None writes nothing.

        Raises:
            InputError: the quantity is not defined for this model or these data.
        """
