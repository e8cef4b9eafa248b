"""Networks called `net(x, c, cond)`: x (B, *event) of about unit variance, c (B,) the noise level ln(sigma/alpha)/4."""

from typing import TYPE_CHECKING

from scoresde._lazy import lazy

if TYPE_CHECKING:
    from scoresde.nets.adm import ADM as ADM
    from scoresde.nets.dit import DiT as DiT
    from scoresde.nets.edm2 import EDM2 as EDM2
    from scoresde.nets.mlp import ResidualMLP as ResidualMLP
    from scoresde.nets.ncsnpp import NCSNpp as NCSNpp
    from scoresde.nets.unet import UNet as UNet

_NAMES = {
    "adm": "ADM",
    "dit": "DiT",
    "edm2": "EDM2",
    "mlp": "ResidualMLP",
    "ncsnpp": "NCSNpp",
    "unet": "UNet",
}
__getattr__, __dir__, __all__ = lazy(__name__, _NAMES)
