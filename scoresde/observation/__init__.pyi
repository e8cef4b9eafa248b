from scoresde.observation.base import Observation as Observation
from scoresde.observation.inpaint import Inpaint as Inpaint
from scoresde.observation.projection import Projection as Projection
from scoresde.observation.solve import conjugate_gradients as conjugate_gradients
from scoresde.observation.units import InUnits as InUnits
from scoresde.observation.units import in_units as in_units

__all__: list[str]
