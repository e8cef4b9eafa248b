"""Objects by the name of their YAML file: `named("sde", "vp", beta_max=15)`."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scoresde.build import build
from scoresde.described import describe
from scoresde.errors import TARGET, InputError, did_you_mean
from scoresde.plain import from_yaml
from scoresde.vocabulary import meant_option


def config_folder() -> Path:
    """Where the YAML files are: inside an installed package, else at the top of the repository."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def options(group: str, folders: Iterable[Path] = ()) -> dict[str, Path]:
    """The YAML files of a group by their names; those in `folders` come before those of the package."""
    places = [config_folder(), *folders]
    return {file.stem: file for place in places for file in sorted((place / group).glob("*.yaml"))}


def option(group: str, name: str, key: str = "", folders: Iterable[Path] = ()) -> dict[str, Any]:
    """The content of the YAML file of an option.

    Args:
        group: such as solver.
        name: such as heun.
        key: where the name was given, for messages; empty takes the group.
        folders: where else to look.

    Raises:
        InputError: there is no such option; names the nearest.
    """
    files = options(group, folders)
    if name not in files:
        near = meant_option(group, name, files) or did_you_mean(name, files)
        raise InputError(f"{key or group}: there is no {group} {name}{near} (options: {', '.join(sorted(files))})")
    content: dict[str, Any] = from_yaml(files[name].read_text(encoding="utf-8")) or {}
    return content


def named(group: str, name: str, /, *, runtime: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The object that an option describes, with some of its arguments changed.

    Args:
        group: such as solver.
        name: such as heun.
        runtime: objects for constructor parameters that no configuration holds, see `scoresde.build.build`.
        changes: arguments of the constructor.

    Raises:
        InputError: an unknown name or argument, or a value out of range.
    """
    return build({**option(group, name), **changes}, group, **(runtime or {}))


def name_of(group: str, thing: Any) -> str:
    """The option that is nearest to an object or its configuration; for a class of the user's own its name.

    So a thing has one name, whether it was given by its name, as an object, or by a run.
    """
    try:
        own = _with_network(thing if isinstance(thing, Mapping) else describe(thing))
    except InputError:  # no configuration can name it
        return type(thing).__name__
    kind = str(own.get(TARGET)).rpartition(".")[2]
    near = {name: known for name, known in _contents(group).items() if str(known.get(TARGET)).endswith(f".{kind}")}
    return max(near, key=lambda name: sum(own.get(k) == v for k, v in near[name].items()), default=kind)


@cache
def _contents(group: str) -> dict[str, dict[str, Any]]:
    return {name: _with_network(option(group, name)) for name in options(group)}


def _with_network(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, in which the network of a model takes the place of the model."""
    net = cfg.get("net")
    return {**cfg, **(net if isinstance(net, Mapping) else {})}
