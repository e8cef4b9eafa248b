from scoresde.nets.dit import DiT as DiT
from scoresde.nets.edm2 import EDM2 as EDM2
from scoresde.nets.encoder import Encoder as Encoder
from scoresde.nets.mlp import ResidualMLP as ResidualMLP
from scoresde.nets.ncsnpp import ADM as ADM
from scoresde.nets.ncsnpp import NCSNpp as NCSNpp
from scoresde.nets.rms_unet import RMSUNet as RMSUNet
from scoresde.nets.unet import UNet as UNet

__all__: list[str]
