from scoresde.control.guidance import Conditioned as Conditioned
from scoresde.control.wrapper import Wrapper as Wrapper

__all__: list[str]
