"""Networks called `net(x, c, cond)`: x (B, *event) of about unit variance, c (B,) the noise level ln(sigma/alpha)/4."""

from scoresde.nets.mlp import ResidualMLP
from scoresde.nets.ncsnpp import NCSNpp
from scoresde.nets.unet import UNet

__all__ = ["NCSNpp", "ResidualMLP", "UNet"]
