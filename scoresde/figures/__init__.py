"""Pictures of samples, of scores and of paths; knows of data only its `Transform`.

Every function writes a PNG to `path`, or returns the matplotlib figure where `path` is None. No global state of
matplotlib is read or changed, so they may be called from any thread and beside the user's own figures.
"""

from scoresde.figures.fields import score_field, trajectories
from scoresde.figures.samples import picture

__all__ = ["picture", "score_field", "trajectories"]
