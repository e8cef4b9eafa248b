from scoresde.loss.base import Batch as Batch
from scoresde.loss.base import Loss as Loss
from scoresde.loss.base import LossTerms as LossTerms
from scoresde.loss.binomial import BinomialBound as BinomialBound
from scoresde.loss.bound import Bound as Bound
from scoresde.loss.bound import VariationalBound as VariationalBound
from scoresde.loss.dsm import DenoisingScoreMatching as DenoisingScoreMatching
from scoresde.loss.entropy import CrossEntropy as CrossEntropy
from scoresde.loss.implicit import ImplicitScoreMatching as ImplicitScoreMatching
from scoresde.loss.implicit import SlicedScoreMatching as SlicedScoreMatching

__all__: list[str]
