"""Networks called `net(x, c, cond)`: x (B, *event) of about unit variance, c (B,) the noise level ln(sigma/alpha)/4."""

from scoresde.nets.adm import ADM
from scoresde.nets.dit import DiT
from scoresde.nets.edm2 import EDM2
from scoresde.nets.mlp import ResidualMLP
from scoresde.nets.ncsnpp import NCSNpp
from scoresde.nets.unet import UNet

__all__ = ["ADM", "EDM2", "DiT", "NCSNpp", "ResidualMLP", "UNet"]
