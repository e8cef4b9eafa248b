"""Networks called `net(x, c)`: x (B, *event) of about unit variance, c (B,) the noise level ln(sigma/alpha)/4."""

from scoresde.nets.mlp import ResidualMLP
from scoresde.nets.unet import UNet

__all__ = ["ResidualMLP", "UNet"]
