"""A run on disk: its folder, its configuration and figures, and the way back to a model.

    <run>/.lock         held while a program writes here
    <run>/config.yaml   resolved, without secrets: plain values, no references
    <run>/summary.json  final figures
    <run>/checkpoints/  see `scoresde.training.checkpoint`

A folder may come from somebody else: reading it constructs no class that its reader has not allowed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scoresde.build import build
from scoresde.errors import InputError

if TYPE_CHECKING:
    from scoresde.data import Dataset, Transform
    from scoresde.guidance import Label
    from scoresde.model import Model, ScoreModel
    from scoresde.sde import SDE

CONFIG, SUMMARY, CONVERTED = "config.yaml", "summary.json", "convert.json"
REMOVED = "(removed)"
_SECRET_KEY = re.compile(r"(^|_)(api_?key|password|passwd|secret|token|credentials?)$", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")


def new_folder(parent: Path, name: str) -> Path:
    """Make `parent/<name>-<random>`, a folder that no other program has."""
    # nothing that a shell or Hydra would take amiss
    short = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:80].strip("_")
    while True:
        path = parent / f"{short}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path


def setting(run: Path) -> str:
    """How a run folder is typed on the command line."""
    return f"run={run}" if re.fullmatch(r"[\w./-]+", str(run), re.ASCII) else f"\"run='{run}'\""


def timestamp() -> str:
    """Local time as a part of a folder's name."""
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def versions() -> dict[str, str]:
    """What a result was made with."""
    import platform
    from importlib.metadata import version

    names = ("scoresde", "torch", "numpy")
    own = {name: version(name) for name in names}
    return {**own, "python": platform.python_version(), "system": platform.platform()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write aside, then rename, as `write_json` does."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder; a second program that wants to write there is told so.

    Raises:
        InputError: another program holds it.
    """
    import fcntl  # where there is none (Windows), reading a run still works

    with (run / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"run: {run} is in use by another program; wait for it, or give another folder") from None
        yield


def without_secrets(cfg: Any) -> Any:
    """A copy of plain values in which passwords and keys are replaced, by their name or because they are the value of
    an environment variable with such a name."""
    known = [v for k, v in os.environ.items() if _SECRET_VARIABLE.search(k.upper()) and len(v) >= 8]

    def clean(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {k: clean(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [clean(v, key) for v in value]
        secret = isinstance(value, str) and value and (_SECRET_KEY.search(key) or any(k in value for k in known))
        return REMOVED if secret else value

    return clean(cfg)


def write_config(run: Path, cfg: Mapping[str, Any]) -> None:
    """Write the resolved configuration, without secrets."""
    write_text(run / CONFIG, yaml.safe_dump(without_secrets(cfg), sort_keys=False, allow_unicode=True))


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of a run as plain values.

    Raises:
        InputError: the folder or the file is missing or damaged, or holds references.
    """
    path = run / CONFIG
    if not run.is_dir():
        raise InputError(f"run: there is no folder {run} (seen from {Path.cwd()}){_runs_near(run)}")
    if not path.is_file():
        raise InputError(f"run: {run} is not the folder of a run, it has no {CONFIG}{_runs_near(run)}")
    try:
        cfg = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(cfg, dict):
        raise InputError(f"{path}: holds {type(cfg).__name__}, not a mapping of keys to values")
    _refuse_references(cfg, str(path))
    return cfg


def _refuse_references(value: Any, path: str) -> None:
    """A stored configuration is plain: `${...}` in it would be read by nobody who wrote it with this program."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_references(item, f"{path}: {key}" if path.endswith(CONFIG) else f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            _refuse_references(item, path)
    elif isinstance(value, str) and "${" in value:
        raise InputError(f"{path}: {value!r} is a reference, which no stored configuration may hold; give the value")


def _runs_near(run: Path) -> str:
    """Runs to name in an error message: those in the folder, else the newest ones in `runs`."""
    for parent in (run, Path("runs")):
        found = list(parent.glob(f"*/{CONFIG}")) if parent.is_dir() else []
        if found:
            newest = sorted(found, key=lambda p: p.stat().st_mtime)[-3:]
            return f"; there are {', '.join(str(p.parent) for p in reversed(newest))}"
    return "; scoresde train makes one"


@dataclass
class Run:
    """A trained model and what is needed to use it, from `load`.

    Attributes:
        path: the folder.
        model: the network with its SDE and preconditioning, in evaluation mode.
        transform: the map between model units and data units.
        event_shape: shape of one sample.
        config: the stored configuration as plain values.
        step: the training step of these weights.
    """

    path: Path
    model: ScoreModel
    transform: Transform
    event_shape: tuple[int, ...]
    config: dict[str, Any]
    step: int
    _allow: Sequence[str] = field(default=(), repr=False)

    @property
    def plain(self) -> Model:
        """The model to sample from without a label: `model`, told that nothing was changed if it knows augmentation."""
        return self.told(self.model)

    def told(self, model: ScoreModel, label: Label = None, guidance: float = 1.0) -> Model:
        """A model with the network of this one, told a class, or with several sample k the k-th in turn.

        Args:
            model: `model`, or that under another SDE.
            label: a class or several; None for `plain`.
            guidance: see `scoresde.Conditioned`.

        Raises:
            InputError: the network knows no classes, or not these; or it was never trained without one.
        """
        from scoresde.guidance import condition_of, conditioned, labelled
        from scoresde.training.conditions import unchanged

        if label is not None or guidance != 1:
            return labelled(model, label, guidance)
        known = condition_of(model)
        if known is not None and known.kind == "class" and known.dropout == 0:
            raise InputError(
                f"run: {self.path} was trained with condition_dropout=0, so its network always needs a class; give "
                "label=0 or label=[0,1,2]"
            )
        trainer = self.config.get("trainer")
        augment = trainer.get("augment") if isinstance(trainer, Mapping) else None
        return conditioned(model, unchanged() if augment else None)

    @property
    def sde(self) -> SDE:
        """The forward diffusion of the model."""
        return self.model.sde

    def dataset(self) -> Dataset:
        """Load the data on which the model was trained, from where the configuration says it is."""
        dataset: Dataset = build(section(self.config, "data", self.path), "data", self._allow).load()
        return dataset


def load(
    run: str | Path,
    checkpoint: str | int = "last",
    device: str = "auto",
    weights: str = "ema",
    allow: Sequence[str] = (),
) -> Run:
    """Load a trained model from a run folder; the training data need not be there.

    Args:
        run: the folder.
        checkpoint: `last`, `best`, the number of a step, or `length-0.1` for an average made by `scoresde ema`.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
        weights: the moving average of the weights (`ema`), those of the last step (`raw`), or another average that the
            run keeps, such as `ema-0.9999` or `power-0.1`.
        allow: packages of your own whose classes the configuration may name. What the folder itself says about this
            is ignored.

    Raises:
        InputError: not a run, no such checkpoint, a checkpoint of another architecture, a class that is not allowed.
    """
    from scoresde.data import Transform
    from scoresde.model import ScoreModel
    from scoresde.sde import SDE
    from scoresde.training import checkpoint as checkpoints
    from scoresde.training.averages import is_average
    from scoresde.training.state import load_module

    path = Path(run)
    cfg = read_config(path)
    place = pick_device(device)
    found = checkpoints.read(checkpoints.find(path, str(checkpoint)))
    kept = {name: tensors for name, tensors in found.modules.items() if is_average(name)}
    kept |= {"raw": found.modules["model"]} if "model" in found.modules else {}
    if weights not in kept:
        raise InputError(
            f"weights: {weights!r} is not one of {', '.join(kept)}, which {path}, step {found.step}, holds"
        )
    transform = Transform.from_dict(found.state["data"]["transform"])
    sde = build(section(cfg, "sde", path), "sde", allow, expect=SDE)
    model = build(
        section(cfg, "model", path), "model", allow, ScoreModel, sde=sde, event_shape=tuple(transform.event_shape)
    )
    load_module(model, kept[weights], f"{path}, step {found.step}")
    return Run(path, model.to(place).eval(), transform, tuple(transform.event_shape), cfg, found.step, allow)


def section(cfg: Mapping[str, Any], key: str, run: Path) -> Any:
    """A part of a stored configuration that must be there."""
    if key not in cfg:
        why = "the file is not as scoresde train wrote it"
        if (run / CONVERTED).is_file():
            why = "this was converted and not trained here; scoresde convert data=... gives it the data to compare with"
        raise InputError(f"{run / CONFIG}: {key} is missing; {why}")
    return cfg[key]


def pick_device(name: str) -> str:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises:
        InputError: there is no such device.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    matched = re.fullmatch(r"cpu|cuda(:(\d+))?", str(name))
    if not matched:
        raise InputError(f"device: {name!r} is not known; give auto, cpu, cuda or cuda:0")
    if name != "cpu" and int(matched[2] or 0) >= count:
        there = f"there are {count} CUDA devices" if count else "there is no CUDA device"
        raise InputError(f"device: {name} is not there, {there} on this machine; use device=auto or device=cpu")
    return str(name)
