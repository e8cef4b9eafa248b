from scoresde.control.classifier import ClassifierGuided as ClassifierGuided
from scoresde.control.guidance import Conditioned as Conditioned
from scoresde.control.guided import Guided as Guided
from scoresde.control.methods import ClassifierFree as ClassifierFree
from scoresde.control.methods import GuidanceMethod as GuidanceMethod
from scoresde.control.methods import PlusPlus as PlusPlus
from scoresde.control.methods import Projected as Projected
from scoresde.control.noisy import NetworkClassifier as NetworkClassifier
from scoresde.control.wrapper import Wrapper as Wrapper

__all__: list[str]
