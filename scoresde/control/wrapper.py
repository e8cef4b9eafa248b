"""The base class of all wrappers of a model."""

import copy
from operator import attrgetter
from typing import Any, Self

from torch import Tensor, nn

from scoresde.model import Model, S
from scoresde.sde import SDE

_FORWARDED = ("sde", "sigma_data", "event_shape")


class Wrapper(Model):
    """Base class of models around another model; a subclass implements `forward` and calls `self.model` in it.

    The SDE, device, cost, conditions, sigma_data and event shape are those of the inner model. Evaluations are counted
    where they happen, see `scoresde.count_evaluations`. Wrappers can be wrapped, copied and pickled.

        class Clipped(Wrapper):
            def forward(self, x, t, cond=None):
                ...self.model(x, t, cond)...

    Args:
        model: the inner model.
    """

    def __init__(self, model: Model) -> None:
        nn.Module.__init__(self)
        self.model, self.training = model, model.training

    def __getattr__(self, name: str) -> Any:
        return getattr(self._modules["model"], name) if name in _FORWARDED else super().__getattr__(name)

    device = property(attrgetter("model.device"))
    cost = property(attrgetter("model.cost"))
    cost_at = property(attrgetter("model.cost_at"))
    conditions = property(attrgetter("model.conditions"))
    states = property(attrgetter("model.states"))
    prior = property(attrgetter("model.prior"))
    levels = property(attrgetter("model.levels"))
    usual_solver = property(attrgetter("model.usual_solver"))

    def of_samples(self, rows: Tensor) -> Model:
        inner = self.model.of_samples(rows)
        return self if inner is self.model else self.around(inner)

    def suits(self, sampler: S) -> S:
        return self.model.suits(sampler)

    def under(self, sde: SDE) -> Self:
        return self.around(self.model.under(sde))

    def around(self, model: Model) -> Self:
        """This wrapper around another model; it shares everything else."""
        other = copy.copy(self)
        other._modules = {**self._modules, "model": model}
        return other
