from scoresde.parallel.alone import Gone as Gone
from scoresde.parallel.alone import World as World
from scoresde.parallel.join import joined as joined
from scoresde.parallel.join import world as world
from scoresde.parallel.shared import sharing as sharing

__all__: list[str]
