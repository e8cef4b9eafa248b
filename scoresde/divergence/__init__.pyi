from scoresde.divergence.base import Divergence as Divergence
from scoresde.divergence.base import ExactTrace as ExactTrace
from scoresde.divergence.hutchinson import Hutchinson as Hutchinson
from scoresde.divergence.xtrace import XTrace as XTrace

__all__: list[str]
