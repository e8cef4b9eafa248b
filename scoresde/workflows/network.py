"""The network of a training: made with the weights of a seed, and tried before anything is written."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.data import Dataset
from scoresde.errors import InputError
from scoresde.model import NetworkModel
from scoresde.noise import derived_seed
from scoresde.sampling import Sampler, Solver

_CHECKED = 10_000  # training items that are looked at


@contextmanager
def fresh_weights(seed: int) -> Iterator[None]:
    """Within, networks are made with the weights of a seed, the same on any device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init", 0))
        yield


def tried(model: NetworkModel, dataset: Dataset, parts: Mapping[str, Any]) -> NetworkModel:
    """The model, in training mode, after one trial evaluation on two items.

    Args:
        model: with fresh weights.
        dataset: what it is trained on.
        parts: of the training, of which `loss` and `samplers` must suit the model.

    Raises:
        InputError: a part or the data do not suit the model, the network cannot be called, or its output has another
            shape than its input.
    """
    model.check_part("loss", parts["loss"])
    for name, sampler in parts["samplers"].items():
        sampler.solver.suited(model)
        _check_levels(f"samplers.{name}", sampler, model, dataset.event_shape)
    model.check_data(dataset.items[:_CHECKED])
    net, x, model.event_shape = model.net, dataset.items[:2], dataset.event_shape
    _check_call(net, x)
    with torch.no_grad():
        model.eval()(x, model.sde.t_start)
    return model.train()


def _check_levels(key: str, sampler: Sampler, model: NetworkModel, event_shape: Sequence[int]) -> None:
    """Raise if the solver cannot step between the levels of the sampler, where it looks at these."""
    if type(sampler.solver).check_levels is not Solver.check_levels:
        try:
            sampler.times(model, event_shape=event_shape)
        except InputError as error:
            raise InputError(f"{key}.{error}") from None


def _check_call(net: nn.Module, x: Tensor) -> None:
    """Raise unless the network can be called as net(x, c)."""
    try:
        inspect.signature(net.forward).bind(x, x)
    except TypeError as error:
        raise InputError(f"model.net: {type(net).__name__} cannot be called as net(x, c) ({error})") from None
