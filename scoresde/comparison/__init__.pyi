from scoresde.comparison.api import compare as compare
from scoresde.comparison.budget import Candidate as Candidate
from scoresde.comparison.budget import fitting as fitting
from scoresde.comparison.classes import MixtureClasses as MixtureClasses
from scoresde.comparison.entries import candidates as candidates
from scoresde.comparison.guided import Guidance as Guidance
from scoresde.comparison.guided import guidances as guidances
from scoresde.comparison.inverse import Inverse as Inverse
from scoresde.comparison.inverse import InverseFinite as InverseFinite
from scoresde.comparison.inverse import InverseMixture as InverseMixture
from scoresde.comparison.inverse import InverseModes as InverseModes
from scoresde.comparison.inverse import Ring as Ring
from scoresde.comparison.inverse import posteriors as posteriors
from scoresde.comparison.measure import Comparison as Comparison
from scoresde.comparison.observed import Inferred as Inferred
from scoresde.comparison.output import report as report
from scoresde.comparison.plan import Plan as Plan
from scoresde.comparison.plan import Reference as Reference
from scoresde.comparison.problems import Finite as Finite
from scoresde.comparison.problems import Given as Given
from scoresde.comparison.problems import GivenMixture as GivenMixture
from scoresde.comparison.problems import Mixture as Mixture
from scoresde.comparison.problems import Problem as Problem
from scoresde.comparison.reference import endpoints as endpoints
from scoresde.comparison.trained import Trained as Trained

__all__: list[str]
