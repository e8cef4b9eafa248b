"""Conditions and guidance: wrappers of a model that a sampler cannot tell from a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scoresde.control.wrapper import Wrapper
from scoresde.errors import InputError, require
from scoresde.model import Model
from scoresde.nets.condition import AUGMENT, Cond, Condition
from scoresde.prediction import Prediction

Label = int | list[int] | None  # a class, or several that samples have in turn


class Conditioned(Wrapper):
    """A model that is told the same condition at every evaluation, with classifier-free guidance if asked for.

        eps = eps_null + scale (eps_cond - eps_null)

    A sampler gives sample k the condition number k mod n, whatever the batch size. With a scale other than 0 and 1 each
    sample costs two evaluations, and they are counted so.

    Args:
        model: what predicts, given `cond`.
        cond: n conditions, a tensor (n, ...) as the network takes it: classes (n,), vectors (n, size) or tokens
            (n, L, size); or one class, or a list of classes.
        scale: 1 for the condition as it is, more to follow it more closely, 0 for no condition.

    Raises:
        InputError: a condition that the network does not take, guidance without a null that was trained; when called
            itself, if there are neither one condition nor as many as samples.

    Reference: J. Ho and T. Salimans, arXiv 2207.12598, eq. 6, whose w is scale - 1.
    """

    def __init__(self, model: Model, cond: Tensor | int | Sequence[int], scale: float = 1.0) -> None:
        super().__init__(model)
        require(math.isfinite(scale) and scale >= 0, "scale", scale, "give a number >= 0; 1 turns guidance off")
        told = torch.as_tensor(cond)
        told = told[None] if told.ndim == 0 else told
        require(len(told) > 0, "cond", cond, "give at least one condition")
        network = condition_of(model)
        if network is not None:
            network.check(told, len(told))
            trained = network.dropout > 0 or scale == 1
            require(trained, "scale", scale, "the network was trained with condition_dropout=0, so give 1")
        self.scale = scale
        self.cond: Tensor
        self.register_buffer("cond", told.to(model.device), persistent=False)

    @property
    def cost(self) -> int:
        return self.model.cost * (1 if self.scale in (0, 1) else 2)

    def of_samples(self, rows: Tensor) -> Conditioned:
        other = self.around(self.model.of_samples(rows))
        other._buffers = {"cond": self.cond[rows.to(self.cond.device) % len(self.cond)]}
        return other

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        if cond is not None:
            raise InputError("cond: this model has its own; give none")
        n = len(self.cond)
        if n not in (1, len(x)):
            raise InputError(f"cond: {n} conditions for {len(x)} samples; say which samples they are by of_samples")
        if self.scale == 0:
            return self.model(x, t)
        told = self.model(x, t, self.cond.expand(len(x), *self.cond.shape[1:]))
        return told if self.scale == 1 else self.model(x, t).toward(told, self.scale)


def condition_of(model: Model) -> Condition | None:
    """The condition that the network of a model takes besides `augment`; None where there is none."""
    return next((member for name, member in model.conditions.items() if name != AUGMENT), None)


def labelled(model: Model, label: Label, guidance: float) -> Conditioned:
    """The model told a class, or with several sample k the k-th in turn; for settings that a user typed.

    Raises:
        InputError: no label, a network that knows no classes or not these, guidance without a null that was trained.
    """
    known = condition_of(model)
    if label is None:
        raise InputError(f"guidance: {guidance!r} is not allowed; it needs a label; give label=, or 1")
    if known is None or known.kind != "class":
        raise InputError(f"label: {label!r} is not allowed; this network was trained without classes; give null")
    labels = label if isinstance(label, list) else [label]
    fine = bool(labels) and all(0 <= one < known.size for one in labels)
    require(fine, "label", label, f"give classes from 0 to {known.size - 1}, such as label=0 or label=[0,1]")
    wanted = "the network was trained with condition_dropout=0 and cannot be guided; give 1"
    require(guidance == 1 or known.dropout > 0, "guidance", guidance, wanted)
    return Conditioned(model, labels, guidance)


def conditioned(model: Model, cond: Mapping[str, Tensor]) -> Model:
    """The model with the conditions `cond` in every call, or as it is without any."""
    return Conditioned(model, next(iter(cond.values()))) if cond else model
