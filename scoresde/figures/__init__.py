"""Figures of samples, scores and paths, from tensors and a `scoresde.data.Transform`.

Every function returns a matplotlib figure, which a notebook shows, and writes it as a PNG if a path is given; `film`
writes a GIF. The state of pyplot is neither read nor changed, so the functions may be called from any thread.
"""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
