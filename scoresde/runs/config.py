"""The stored configuration of a run: plain values, without secrets, in today's names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde._secrets import without_secrets
from scoresde.build import MEASURED
from scoresde.errors import InputError, refuse
from scoresde.files import write_text
from scoresde.plain import each, join
from scoresde.runs.folder import CONFIG
from scoresde.runs.upgrade import upgraded

if TYPE_CHECKING:
    from scoresde.data import Dataset

CONVERTED = "convert.json"
_MEASURED = ("sigma_max", "sigma_data")  # attributes of a data set of the same names


def write_config(run: Path, cfg: Mapping[str, Any]) -> None:
    """Write the resolved configuration, without secrets."""
    import yaml

    write_text(run / CONFIG, yaml.safe_dump(without_secrets(cfg), sort_keys=False, allow_unicode=True))


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run as plain values.

    Raises:
        InputError: the folder or the file is missing or damaged, or holds references.
    """
    import yaml

    path = run / CONFIG
    if not path.is_file():
        what = f"{run} is not the folder of a run, it has no {CONFIG}"
        missing = what if run.is_dir() else f"there is no folder {run} (seen from {Path.cwd()})"
        raise InputError(f"run: {missing}{_runs_near(run)}")
    try:
        cfg = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    refuse(not isinstance(cfg, dict), f"{path}: holds {type(cfg).__name__}, not a mapping of keys to values")
    wanted = "a reference, which no stored configuration may hold; give the value"
    for key, value in leaves(cfg):
        refuse("${" in str(value), f"{path}: {key}: {value!r} is {wanted}")  # not written by this program
    return upgraded(cfg)


def _runs_near(run: Path) -> str:
    """Runs to name in an error message: those in the folder, else the newest ones in `runs`."""
    for parent in (run, Path("runs")):
        found = list(parent.glob(f"*/{CONFIG}")) if parent.is_dir() else []
        if found:
            newest = sorted(found, key=lambda p: p.stat().st_mtime)[-3:]
            return f"; there are {', '.join(str(p.parent) for p in reversed(newest))}"
    return "; scoresde train makes one"


def section(cfg: Mapping[str, Any], key: str, run: Path) -> Any:
    """A part of a stored configuration that must be there."""
    why = "the file is not as scoresde train wrote it"
    if (run / CONVERTED).is_file():
        why = "this run was converted, not trained here; scoresde convert data=... gives it data to compare with"
    refuse(key not in cfg, f"{run / CONFIG}: {key} is missing; {why}")
    return cfg[key]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything in a configuration that holds nothing more."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, join(path, key))
    else:
        yield path, value


def get(cfg: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    value: Any = cfg
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def put(cfg: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path."""
    *parents, last = path.split(".")
    for key in parents:
        cfg = cfg.setdefault(key, {})
    cfg[last] = value


def measured(cfg: Any, dataset: "Dataset", key: str = "") -> Any:
    """A copy of a configuration with numbers in place of `measured`, so that it can be used without the data."""
    if key in _MEASURED and cfg == MEASURED:
        return getattr(dataset, key)
    return each(cfg, lambda value, name: measured(value, dataset, name))
