from scoresde.convert.conversion import Report as Report
from scoresde.convert.conversion import convert as convert
from scoresde.convert.export import to_diffusers as to_diffusers

__all__: list[str]
