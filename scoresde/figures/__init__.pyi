from scoresde.figures.fields import flow as flow
from scoresde.figures.fields import score_field as score_field
from scoresde.figures.fields import trajectories as trajectories
from scoresde.figures.motion import film as film
from scoresde.figures.motion import strip as strip
from scoresde.figures.samples import picture as picture

__all__: list[str]
