from scoresde.parallel.join import world as world
from scoresde.parallel.alone import World as World

__all__: list[str]
