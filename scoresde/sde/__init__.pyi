from scoresde.sde.base import SDE as SDE
from scoresde.sde.base import Level as Level
from scoresde.sde.base import half_log_snr as half_log_snr
from scoresde.sde.closed_form import EDMSDE as EDMSDE
from scoresde.sde.closed_form import VESDE as VESDE
from scoresde.sde.closed_form import VPSDE as VPSDE
from scoresde.sde.closed_form import CosineSDE as CosineSDE
from scoresde.sde.closed_form import OneLevelSDE as OneLevelSDE
from scoresde.sde.closed_form import RectifiedSDE as RectifiedSDE
from scoresde.sde.closed_form import SubVPSDE as SubVPSDE
from scoresde.sde.discrete import DiscreteVPSDE as DiscreteVPSDE
from scoresde.sde.discrete import LevelsVPSDE as LevelsVPSDE
from scoresde.sde.user import DriftSDE as DriftSDE
from scoresde.sde.user import PathSDE as PathSDE

__all__: list[str]
