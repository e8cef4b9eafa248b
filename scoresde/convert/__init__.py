"""Weights that people have: foreign checkpoints become models of this project, and back."""

from typing import TYPE_CHECKING

from scoresde._lazy import lazy

if TYPE_CHECKING:
    from scoresde.convert.conversion import convert as convert
    from scoresde.convert.export import to_diffusers as to_diffusers
    from scoresde.convert.levels import DiscreteVPSDE as DiscreteVPSDE
    from scoresde.convert.model import LabelledModel as LabelledModel
    from scoresde.convert.report import Report as Report

_NAMES = {
    "conversion": "convert",
    "export": "to_diffusers",
    "levels": "DiscreteVPSDE",
    "model": "LabelledModel",
    "report": "Report",
}
__getattr__, __dir__, __all__ = lazy(__name__, _NAMES)
