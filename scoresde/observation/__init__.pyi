from scoresde.observation.base import Observation as Observation
from scoresde.observation.blur import Blur as Blur
from scoresde.observation.fourier import Fourier as Fourier
from scoresde.observation.grey import Grey as Grey
from scoresde.observation.inpaint import Inpaint as Inpaint
from scoresde.observation.nonlinear import Custom as Custom
from scoresde.observation.nonlinear import Saturate as Saturate
from scoresde.observation.projection import Projection as Projection
from scoresde.observation.solve import conjugate_gradients as conjugate_gradients
from scoresde.observation.superres import SuperRes as SuperRes
from scoresde.observation.units import InUnits as InUnits
from scoresde.observation.units import in_units as in_units

__all__: list[str]
