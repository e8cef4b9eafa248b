from scoresde.convert.conversion import Report as Report
from scoresde.convert.conversion import convert as convert
from scoresde.convert.export import to_diffusers as to_diffusers
from scoresde.convert.levels import DiscreteVPSDE as DiscreteVPSDE
from scoresde.convert.levels import LabelledModel as LabelledModel
from scoresde.convert.levels import LevelsVPSDE as LevelsVPSDE

__all__: list[str]
