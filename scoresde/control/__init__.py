"""Wrappers of a model that a sampler cannot tell from a model: conditions and guidance."""

from scoresde.control.guidance import Conditioned
from scoresde.control.wrapper import Wrapper

__all__ = ["Conditioned", "Wrapper"]
