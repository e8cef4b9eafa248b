"""Conditions and guidance: wrappers of a model that a sampler cannot tell from a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scoresde.control.wrapper import Wrapper
from scoresde.errors import InputError, refuse, require
from scoresde.model import Model
from scoresde.nets.condition import AUGMENT, Cond, Condition, named
from scoresde.prediction import Prediction

Label = int | list[int] | None  # a class, or several that samples take in turn
Values = Tensor | int | Sequence[int]


class Conditioned(Wrapper):
    """A model with fixed conditions, and optional classifier-free guidance.

        eps = eps_null + scale (eps_cond - eps_null)

    A sampler gives sample k the condition k mod n, whatever the batch size. Guidance hides the conditions that the
    network was trained without at times (`condition_dropout` > 0) and keeps the others. With a scale other than 0 and 1
    each sample costs two evaluations. A network may get some of its conditions from one wrapper and some from another.

    Args:
        model: the model that takes the conditions.
        cond: n conditions, as the network takes them: classes (n,), vectors (n, size), tokens (n, L, size) or images
            (n, size, *sizes); or one class, or a list of classes; or a mapping of names to these. A network with one
            condition needs no name.
        scale: 1 applies the condition as it is, more follows it more closely, 0 hides it; or one for each sample, (n,).

    Raises:
        InputError: a condition that the network does not take, or guidance of a network that was always trained with
            it; when called without a sampler, n conditions for neither 1 nor n samples.

    Reference: J. Ho and T. Salimans, arXiv 2207.12598, eq. 6, whose w is scale - 1.
    """

    def __init__(
        self, model: Model, cond: Values | Mapping[str, Values], scale: float | Tensor | Sequence[float] = 1.0
    ) -> None:
        super().__init__(model)
        known, per_sample = model.conditions, not isinstance(scale, float | int)
        scales = torch.as_tensor(scale, dtype=torch.float64).reshape(-1)
        fine = len(scales) > 0 and bool((torch.isfinite(scales) & (scales >= 0)).all())
        require(fine, "scale", scale, "give a number >= 0, or one for each sample; 1 turns guidance off")
        values = {name: rows_of(v) for name, v in cond.items()} if isinstance(cond, Mapping) else {"": rows_of(cond)}
        if known:
            values = dict(named(known, values.get("", values)))
            for name, value in values.items():
                known[name].check(value, len(value))
        self.cond = {name: value.to(model.device) for name, value in values.items()}
        self.scale = scales if per_sample else float(scales)
        self._hidden = {name for name in values if name not in known or known[name].dropout > 0}
        possible = bool(self._hidden) or bool((scales == 1).all())
        require(possible, "scale", scale, "the network was trained with condition_dropout=0, so give 1")

    @property
    def _guided(self) -> bool:
        """Whether the network is evaluated with and without its conditions."""
        return isinstance(self.scale, Tensor) or self.scale not in (0, 1)

    @property
    def cost(self) -> int:
        return self.model.cost * (2 if self._guided else 1)

    def cost_at(self, t: float) -> int:
        return self.model.cost_at(t) * (2 if self._guided else 1)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {name: member for name, member in self.model.conditions.items() if name not in self.cond}

    def of_samples(self, rows: Tensor) -> Conditioned:
        other = self.around(self.model.of_samples(rows))
        other.cond = {name: value[rows.to(value.device) % len(value)] for name, value in self.cond.items()}
        if isinstance(self.scale, Tensor):
            other.scale = self.scale[rows.to(self.scale.device) % len(self.scale)].to(self.device)
        return other

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        refuse(cond is not None and not self.conditions, "cond: this model has its own; give none")
        others = dict(named(self.conditions, cond))
        own = {name: for_batch("conditions", value, x) for name, value in self.cond.items()}
        null = {name: value for name, value in own.items() if name not in self._hidden}
        if not self._guided:
            return self._given(x, t, {**others, **(own if self.scale else null)})
        scale = for_batch("scales", self.scale, x) if isinstance(self.scale, Tensor) else self.scale
        conditional = self._given(x, t, {**others, **own})
        return self._given(x, t, {**others, **null}).toward(conditional, scale)

    def _given(self, x: Tensor, t: float | Tensor, cond: dict[str, Tensor]) -> Prediction:
        """The prediction of the inner model; its only condition has no name where the model does not say names."""
        return self.model(x, t, cond.get("", cond)) if cond else self.model(x, t)


def rows_of(values: Values) -> Tensor:
    rows = torch.as_tensor(values)
    rows = rows[None] if rows.ndim == 0 else rows
    require(len(rows) > 0, "cond", values, "give at least one condition")
    return rows


def for_batch(what: str, values: Tensor, x: Tensor) -> Tensor:
    if len(values) not in (1, len(x)):
        raise InputError(f"cond: {len(values)} {what} for {len(x)} samples; choose those of the samples by of_samples")
    return values.to(x.device).expand(len(x), *values.shape[1:])


def condition_of(model: Model) -> Condition | None:
    """The condition that the network of a model takes besides `augment`; None where there is none."""
    return next((member for name, member in model.conditions.items() if name != AUGMENT), None)


def labelled(model: Model, label: Label, guidance: float) -> Conditioned:
    """The model conditioned on a class, or on several that samples take in turn; for settings that a user typed.

    Raises:
        InputError: no label, a network without these classes, guidance of a network that always had a class.
    """
    known = next((member for member in model.conditions.values() if member.kind == "class"), None)
    if label is None:
        raise InputError(f"guidance: {guidance!r} is not allowed; it needs a label; give label=, or 1")
    if known is None:
        raise InputError(f"label: {label!r} is not allowed; this network was trained without classes; give null")
    labels = label if isinstance(label, list) else [label]
    fine = bool(labels) and all(0 <= one < known.size for one in labels)
    require(fine, "label", label, f"give classes from 0 to {known.size - 1}, such as label=0 or label=[0,1]")
    wanted = "the network was trained with condition_dropout=0 and cannot be guided; give 1"
    require(guidance == 1 or known.dropout > 0, "guidance", guidance, wanted)
    return Conditioned(model, {known.name: labels}, guidance)


def conditioned(model: Model, cond: Mapping[str, Tensor]) -> Model:
    """The model with the conditions `cond` in every call, or as it is without any."""
    return Conditioned(model, cond) if cond else model
