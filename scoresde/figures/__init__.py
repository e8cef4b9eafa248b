"""Pictures of samples, of scores and of paths; knows of data only its `Transform`.

Every function writes a PNG to `path`, or returns the matplotlib figure where `path` is None; `film` writes a GIF. No
global state of matplotlib is read or changed, so they may be called from any thread and beside the user's own figures.
"""

from scoresde.figures.fields import flow, score_field, trajectories
from scoresde.figures.motion import film, strip
from scoresde.figures.samples import picture

__all__ = ["film", "flow", "picture", "score_field", "strip", "trajectories"]
