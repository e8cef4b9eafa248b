from scoresde.chains.binomial import BinomialChain as BinomialChain
from scoresde.chains.binomial import BitModel as BitModel
from scoresde.chains.binomial import BitPrediction as BitPrediction
from scoresde.chains.binomial import ExactBits as ExactBits
from scoresde.chains.evidence import BitEvidence as BitEvidence
from scoresde.chains.evidence import Evidence as Evidence
from scoresde.chains.gaussian import GaussianChain as GaussianChain
from scoresde.chains.gaussian import LearnedLevels as LearnedLevels
from scoresde.chains.gaussian_evidence import GaussianEvidence as GaussianEvidence
from scoresde.chains.gaussian_evidence import SmoothEvidence as SmoothEvidence

__all__: list[str]
