"""SDEs by the names of their YAML files."""

from typing import Any

from scoresde.build import MEASURED
from scoresde.errors import refuse
from scoresde.named import named, option
from scoresde.sde.base import SDE


def sde(name: str, /, **changes: Any) -> SDE:
    """The SDE of that name, such as `scoresde.sde("vp", beta_max=15.0)`; see conf/sde for the names.

    Raises:
        InputError: an unknown name or argument, a value out of range, or none for one that is measured from data.
    """
    for key, value in {**option("sde", name), **changes}.items():
        refuse(value == MEASURED, f"sde.{key}: {name} measures it from data; give a number, such as {key}=50.0")
    made: SDE = named("sde", name, **changes)
    return made
