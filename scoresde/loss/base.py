"""The interface of losses: a loss is called with the model in training and a batch."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from scoresde.constraints import Checked
from scoresde.errors import InputError, require
from scoresde.model import States
from scoresde.noise import Noise, take

M = TypeVar("M", bound=nn.Module)
_NOISE = Noise(0)


class LossTerms(NamedTuple):
    """The loss of each sample (B,), and its half log-SNR (B,) where the loss has noise levels."""

    loss: Tensor
    lam: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss is given for one forward and backward pass.

    Attributes:
        x0: data in model units, (B, *event).
        u: uniform numbers in [0, 1) for the choice of noise levels, float64, (B,).
        eps: standard normal numbers, (B, *event).
        cond: the conditions of the samples by name; None without conditions.
        noise: further random numbers of these samples, such as `noise.normal("probes", step, x0.shape, x0.device)`.
        step: the training step, from 0; 0 in an evaluation.

    Raises:
        InputError: u or eps is of another shape.
    """

    x0: Tensor
    u: Tensor
    eps: Tensor
    cond: Mapping[str, Tensor] | None = None
    noise: Noise = _NOISE
    step: int = 0

    def __post_init__(self) -> None:
        for name, wanted in (("u", self.x0.shape[:1]), ("eps", self.x0.shape)):
            shape = getattr(self, name).shape
            require(shape == wanted, name, tuple(shape), f"give a tensor {tuple(wanted)} for x0 {tuple(self.x0.shape)}")

    def part(self, rows: range) -> "Batch":
        """The batch of some of the samples, given by their places in this one."""
        x0, u, eps = (take(one, rows) for one in (self.x0, self.u, self.eps))
        cond = None if self.cond is None else {name: take(value, rows) for name, value in self.cond.items()}
        numbers = (self.noise.rows or range(len(self.x0)))[rows.start : rows.stop : rows.step]
        return Batch(x0, u, eps, cond, Noise(self.noise.seed, numbers), self.step)


def _of_tensors(call: Callable[..., LossTerms]) -> Callable[..., LossTerms]:
    """Let a loss take x0, u, eps and what else a batch has in place of the batch."""

    @functools.wraps(call)
    def wrapped(self: Any, model: nn.Module, batch: Batch | Tensor, *others: Any, **named: Any) -> LossTerms:
        return call(self, model, Batch(batch, *others, **named) if isinstance(batch, Tensor) else batch)

    return wrapped


class Loss(Checked, ABC, Generic[M]):
    """What a training minimizes: a subclass writes `__call__`, and states what it needs.

    Called with a batch, or with its tensors: `loss(model, x0, u, eps)`.

    Attributes:
        stratified: the numbers u of a batch are spread evenly, see `scoresde.loss.levels.stratified`.
        importance: u is drawn more often where the loss was large, see `scoresde.loss.levels.LossHistory`.
        differentiates: the loss takes derivatives, so it is evaluated with gradients enabled on held-out data too.
        teacher: a module that the loss calls and that is not trained, or None. A training moves it to the device of
            the model and puts it into evaluation mode, without gradients.
        targets: names of conditions of the data that the batch has besides those that the network takes.
        states: of the models that it takes, see `scoresde.Model`.
    """

    states: States = "gaussian"

    stratified: bool = False
    importance: bool = False
    differentiates: bool = False
    teacher: nn.Module | None = None
    targets: Sequence[str] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:
            setattr(cls, "__call__", _of_tensors(cls.__dict__["__call__"]))  # noqa: B010 - mypy refuses the plain form

    @abstractmethod
    def __call__(self, model: M, batch: Batch) -> LossTerms:
        """The loss of each sample; the model is a `ScoreModel`, a bare network or whatever the loss is made for."""

    def check(self, model: M) -> None:
        """Refuse a model that the loss cannot train; called before a training begins."""

    def range_of_lam(self, model: M) -> tuple[float, float] | None:
        """The lowest and the highest half log-SNR of `LossTerms.lam`; None where the loss has no noise levels."""
        return None

    def after_step(self, model: M, step: int) -> None:
        """Called after each update of the weights, with the number of the step, from 0."""

    def summary(
        self, model: M, items: Tensor, conditions: Mapping[str, Tensor], seed: int
    ) -> dict[str, dict[str, float]]:
        """What the end of a training tells of held-out items (M, *event) besides the mean loss, by name: nothing.

        A value such as {"bound": {"bits": 2.4, "standard_error": 0.01}} is printed and kept in the summary of the run.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold to resume a training exactly, if `after_step` or `__call__` change the loss."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        if state:
            raise InputError(f"checkpoint: {type(self).__name__} has no state to load; use the loss that was saved")
