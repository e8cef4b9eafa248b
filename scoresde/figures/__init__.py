"""Figures of samples, scores and paths, from tensors and a `scoresde.data.Transform`.

Every function returns a matplotlib figure, which a notebook shows, and writes it as a PNG if a path is given; `film`
writes a GIF. The state of pyplot is neither read nor changed, so the functions may be called from any thread.
"""

from scoresde.figures.fields import flow, score_field, trajectories
from scoresde.figures.motion import film, strip
from scoresde.figures.samples import picture

__all__ = ["film", "flow", "picture", "score_field", "strip", "trajectories"]
