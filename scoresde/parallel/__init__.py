"""Several processes that train one network: who they are, and how they sum, gather and share.

They are started by torchrun or srun, one for each device, and each runs the same program. The sum of their gradients is
taken in an order that does not depend on their number, so neither does the training.
"""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
