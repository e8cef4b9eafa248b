from scoresde.parallel.alone import World as World
from scoresde.parallel.join import joined as joined
from scoresde.parallel.join import world as world

__all__: list[str]
