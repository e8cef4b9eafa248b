from scoresde.divergence.base import Divergence as Divergence
from scoresde.divergence.base import ExactTrace as ExactTrace
from scoresde.divergence.base import Hutchinson as Hutchinson

__all__: list[str]
