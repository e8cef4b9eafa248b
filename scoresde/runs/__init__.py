"""A run on disk: its folder, its configuration and results, and the model in it.

    <run>/.lock         held while a program writes here
    <run>/config.yaml   resolved, without secrets: plain values, no references
    <run>/summary.json  results of the final samples
    <run>/checkpoints/  see `scoresde.training.checkpoint`

A folder may come from somebody else: reading it constructs no class that its reader has not allowed.
"""

from scoresde._lazy import lazy

__getattr__, __dir__, __all__ = lazy(__name__)
