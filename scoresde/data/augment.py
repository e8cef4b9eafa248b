"""Augmentation that does not leak: the network is conditioned on how an image was changed; samples are unchanged."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scoresde.constraints import Checked, Fraction

# Standard deviations: of the two scalings in octaves, of the shift in sides of the image.
_OCTAVES, _SHIFT = 0.2, 0.125


@dataclass(eq=False)
class Augmentation(Checked):
    """Random geometric changes of images, each with a probability, and the vector that describes them.

        change        how much                                       vector
        mirror        left to right; upside down                     1 each
        zoom          by 2^(0.2 a),  a ~ N(0, 1)                     a
        rotate        by b ~ U(-pi, pi)                              cos b - 1, sin b
        stretch       along c ~ U(-pi, pi) by 2^(0.2 d),             d cos c, d sin c
                      across by its inverse, d ~ N(0, 1)
        shift         by (e, f) / 8 sides,  e, f ~ N(0, 1)           e, f

    An image that is not changed is returned to the bit, and its vector is zero. With the vector as the condition
    `augment` of the network in training, and zeros in sampling, samples look like the data and not like the changed
    images. Outside of the frame the image is continued by reflection; values between pixels are bicubic interpolations.

    Args:
        probability: of each of the six changes (the two mirrors count as two).

    Raises:
        InputError: a probability outside [0, 1].

    T. Karras et al., arXiv 2206.00364, appendix F.2, table 6. There the mirror left to right is always possible, half
    of the stretches are along the axes of the image, and values between pixels are interpolated by wavelets.
    """

    uniforms, normals, size = 10, 4, 9  # random numbers of each image, and size of its vector
    probability: Fraction = 0.12

    def __call__(self, x: Tensor, u: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Images x (B, channels, height, width) changed by random numbers, and the vectors (B, 9).

        Args:
            x: images in model units.
            u: uniform numbers in [0, 1), (B, 10).
            z: normal numbers, (B, 4).
        """
        gates = u[:, :6] < self.probability
        mirrors = gates[:, :2].double() * (u[:, 6:8] < 0.5)
        angles = torch.where(gates[:, [3, 4]], math.pi * (2 * u[:, 8:10].double() - 1), 0.0)
        zoom, stretch, *shift = torch.where(gates[:, [2, 4, 5, 5]], z.double(), 0.0).unbind(1)
        turn, along = angles.unbind(1)
        turned, stretched = (turn.cos() - 1, turn.sin()), (stretch * along.cos(), stretch * along.sin())
        condition = torch.stack([*mirrors.unbind(1), zoom, *turned, *stretched, *shift], dim=1)
        stretches = torch.stack([stretch, -stretch], dim=1) * _OCTAVES
        change = _rotation(along) @ torch.diag_embed(2**stretches) @ _rotation(-along)
        change = _rotation(turn) @ change * (2 ** (_OCTAVES * zoom))[:, None, None]
        change = torch.diag_embed(1 - 2 * mirrors) @ change
        moved = _resampled(x, change, _SHIFT * torch.stack(shift, dim=1))
        touched = (condition != 0).any(1).to(x.device)
        return torch.where(touched[:, None, None, None], moved, x), condition.to(x)


def _rotation(angle: Tensor) -> Tensor:
    """Matrices (B, 2, 2) of rotations by angles (B,) from the first axis, to the right, to the second one, downward."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _resampled(x: Tensor, change: Tensor, shift: Tensor) -> Tensor:
    """Images whose content at p, in pixels from the centre, is now at change p + shift, the shift in sides."""
    sides = torch.tensor([x.shape[3], x.shape[2]], dtype=torch.float64, device=change.device)
    back = torch.linalg.inv(change)
    # in the units of grid_sample, where the image extends from -1 to 1 on both axes
    back = back * sides / sides[:, None]
    offset = -(back @ (2 * shift)[:, :, None])
    grid = functional.affine_grid(torch.cat([back, offset], dim=2).to(x), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, "bicubic", "reflection", align_corners=False)
