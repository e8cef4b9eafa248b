"""Training: the loop, averages of the weights, checkpoints and exact resuming."""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
