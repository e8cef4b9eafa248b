"""Features of random convolutions, which need neither data nor a file, and see what the eye sees first."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scoresde.constraints import Checked, Count, NonNegativeInt
from scoresde.data.dataset import Dataset
from scoresde.metrics.extractor import Extraction, Extractor, plain_card, sha256

_CONVOLUTION = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
_POOL = (None, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_GRID = (None, functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d)
_SIDE = 3  # of a kernel
_CELLS = 2  # of the grid over which the last level is averaged, along each axis


@dataclass(eq=False)
class RandConv(Extractor, Checked):
    """Features of fixed random convolutions of the items in model units.

        h_0 = x,   h_l = pool(relu(w_l * h_{l-1} + b_l)),   w_l ~ N(0, 2 / fan_in),   b_l ~ N(0, 0.1^2)

    Each level doubles the channels and halves the sides. The features are the means of each level over space, of
    the last one over each cell of a grid of two along each axis. Vectors have dense levels instead. Nothing is
    learned, so the features are the same for all data of one shape; they see textures, edges and coarse places, and
    no classes.

    Args:
        seed: of the weights.
        width: channels of the first level.
        levels: how many.

    Raises:
        InputError: a number out of range.

    Random features of this kind are studied by M. Naeem et al., arXiv 2002.09797, section 4.
    """

    seed: NonNegativeInt = 0
    width: Count = 8
    levels: Count = 3

    def extract(self, dataset: Dataset) -> Extraction:
        shape = dataset.event_shape
        axes = len(shape) - 1 if 2 <= len(shape) <= 4 else 0
        weights = self._weights(shape[0] if axes else int(np.prod(shape)), axes)
        card = plain_card("randconv", sha256(part for pair in weights for part in pair)[:16], shape)
        return Extraction(lambda x: _features(x if axes else x.flatten(1), weights, axes), card)

    def _weights(self, channels: int, axes: int) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of each level."""
        generator, found = np.random.default_rng(self.seed), []
        for level in range(self.levels):
            out = self.width * 2**level
            shape = (out, channels, *[_SIDE] * axes)
            normal = generator.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
            bias = 0.1 * generator.standard_normal(out)
            found.append((torch.from_numpy(normal).float(), torch.from_numpy(bias).float()))
            channels = out
        return found


def _features(x: Tensor, weights: list[tuple[Tensor, Tensor]], axes: int) -> Tensor:
    found = []
    convolve, pool, grid = _CONVOLUTION[axes], _POOL[axes], _GRID[axes]
    for level, (weight, bias) in enumerate(weights):
        same = {"padding": _SIDE // 2} if axes else {}
        x = functional.relu(convolve(x, weight.to(x), bias.to(x), **same))
        last = level == len(weights) - 1
        found.append(x if grid is None else grid(x, _CELLS if last else 1).flatten(1))
        if pool is not None and min(x.shape[2:]) > 1:
            x = pool(x, 2)
    return torch.cat(found, 1)
