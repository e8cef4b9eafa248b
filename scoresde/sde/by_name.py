"""SDEs by the names of their YAML files."""

from collections.abc import Mapping
from typing import Any

from scoresde.build import MEASURED, TARGET
from scoresde.errors import refuse
from scoresde.named import named, option, options
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


def name_of(cfg: Mapping[str, Any]) -> str:
    """The name of the YAML file that is nearest to the configuration of an SDE; of a class of the user's own its name.

    So an SDE has one name, whether it was given by its name, as an object, or by a run.
    """
    kind = str(cfg[TARGET]).rpartition(".")[2]
    known = {name: option("sde", name) for name in options("sde")}
    near = {name: known[name] for name in known if str(known[name][TARGET]).rpartition(".")[2] == kind}
    return max(near, key=lambda name: sum(cfg.get(k) == v for k, v in near[name].items()), default=kind)
