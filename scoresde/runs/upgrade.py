"""Configurations written by earlier versions, in today's names: the one table of renamed classes and arguments."""

from collections.abc import Mapping
from typing import Any

from scoresde.errors import TARGET
from scoresde.plain import each

# the dotted name of a class or a package, as stored, and what it is called today
RENAMED: dict[str, str] = {
    "scoresde.compare": "scoresde.comparison",
    "scoresde.convert.DiscreteVPSDE": "scoresde.DiscreteVPSDE",
    "scoresde.convert.LevelsVPSDE": "scoresde.LevelsVPSDE",
    "scoresde.convert.LabelledModel": "scoresde.LabelledModel",
}

# for a class, by today's name: an argument as stored, and what it is called today; None where it is gone
ARGUMENTS: dict[str, dict[str, str | None]] = {
    "scoresde.sampling.ExponentialMultistep": {"order": "predictor"},
}

# keys at the top of a training's configuration that came later, with the value that means what was done before
ADDED: dict[str, Any] = {"init": None}


def upgraded(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The stored configuration of a run, or of a result, in today's names."""
    added = ADDED if "trainer" in cfg else {}
    return _named_augmentation({**added, **{key: _upgraded(value) for key, value in cfg.items()}})


def renamed(target: str) -> str:
    """Today's name of a class."""
    for old, new in RENAMED.items():
        if target == old or target.startswith(old + "."):
            return new + target[len(old) :]
    return target


def _named_augmentation(cfg: dict[str, Any]) -> dict[str, Any]:
    """With the name of the condition of a network that was trained with augmentation, which had none before."""
    match cfg:
        case {"model": {"net": {"condition": "vector"} as net}, "trainer": {"augment": float(share)}} if share > 0:
            net["condition"] = {"augment": "vector"}
    return cfg


def _upgraded(value: Any, _: str = "") -> Any:
    content = each(value, _upgraded)
    if isinstance(content, dict) and isinstance(target := content.get(TARGET), str):
        names = ARGUMENTS.get(renamed(target), {})
        content = {names.get(k, k): v for k, v in content.items() if names.get(k, k) is not None}
        content[TARGET] = renamed(target)
    return content
