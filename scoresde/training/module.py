"""What a training needs to know of the module that it trains, such as a score model or a bare network."""

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter of the module lies; the CPU without parameters."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def network_of(module: nn.Module) -> nn.Module:
    """The network that a training accelerates: `module.net` of a score model, otherwise the module itself."""
    net = getattr(module, "net", None)
    return net if isinstance(net, nn.Module) else module
