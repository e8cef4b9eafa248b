from scoresde.posterior.alternating import DAPS as DAPS
from scoresde.posterior.alternating import Gibbs as Gibbs
from scoresde.posterior.base import Method as Method
from scoresde.posterior.base import Posterior as Posterior
from scoresde.posterior.moments import MMPS as MMPS
from scoresde.posterior.moments import DiffPIR as DiffPIR
from scoresde.posterior.moments import PiGDM as PiGDM
from scoresde.posterior.population import Population as Population
from scoresde.posterior.steps import DPS as DPS
from scoresde.posterior.steps import Loop as Loop
from scoresde.posterior.steps import RePaint as RePaint
from scoresde.posterior.steps import Replace as Replace
from scoresde.posterior.tilted import Exact as Exact
from scoresde.posterior.twisted import Populations as Populations
from scoresde.posterior.twisted import Twisted as Twisted
from scoresde.posterior.twisted import populations as populations

__all__: list[str]
