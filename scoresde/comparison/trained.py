"""Trained runs as what samplers are compared on."""

from collections.abc import Sequence
from typing import Any

from scoresde.comparison.guided import SPREAD, Guidance, classes_of, spread
from scoresde.comparison.problems import Given
from scoresde.control.guidance import Label
from scoresde.data import Dataset
from scoresde.errors import refuse
from scoresde.model import Model
from scoresde.results import Measurement, Quantity
from scoresde.runs import Run
from scoresde.runs.guiding import guided
from scoresde.sampling import Samples


class Trained(Given):
    """A trained run with the data of its training.

    Args:
        run: from `scoresde.load`.
        label: a class, or several for the samples in turn, compared with real items of these; None for none.
        guidance: of samplers that bring none, see `scoresde.Conditioned`.
        classified: whether a classifier leads to the label, so that the network needs none.
    """

    quantities: Sequence[Quantity] = (SPREAD,)

    def __init__(self, run: Run, label: Label = None, guidance: float = 1.0, classified: bool = False) -> None:
        self.run, self.label = run, label
        run.model.needs_gaussian("compare")
        # refuses a label before the data are read
        model = run.plain if classified else run.conditioned(run.model, label, guidance)
        name = f"run {run.path}, step {run.step}" + ("" if label is None else f", label {label}")
        name += "" if guidance == 1 else f", guidance {guidance:g}"
        dataset = run.dataset()
        if label is not None:
            dataset = dataset.of_classes(label if isinstance(label, list) else [label])
        super().__init__(model, dataset, name)

    def asked(self, model: Model, method: Any, seed: int) -> Model:
        nothing = "posteriors: nothing is observed; give observation=inpaint observation.held_out=0 or another one"
        refuse(method is not None and not isinstance(method, Guidance), nothing)
        if not isinstance(method, Guidance):
            return model
        if method.idle:
            return model
        by = (method.interval, method.method, method.guide, method.classifier)
        found = guided(self.run, self.label, method.scale, *by)
        return found if model.sde is self.run.sde else found.under(model.sde)

    def measured(self, drawn: Samples, seed: int, method: Any, real: Dataset) -> dict[str, Measurement]:
        if not isinstance(method, Guidance):
            return {}
        return spread(drawn.x, classes_of(self.label, len(drawn.x)), real)
