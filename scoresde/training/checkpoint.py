"""Checkpoints on disk: written atomically, verified by a manifest, without pickle.

<run>/checkpoints/best.json          {"step", "metric", "value"} of the best one
<run>/checkpoints/step-00001000/
    model.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json
    ema-0.9999.safetensors, power-0.1.safetensors    further averages, if there are any
<run>/checkpoints/snapshot-00001000/    the power-function averages at that step; never pruned
<run>/checkpoints/length-0.1/           an average computed from them after the training, as ema.safetensors
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scoresde.errors import InputError
from scoresde.training.power_ema import POWER

_SCHEMA = 1
_MANIFEST = "manifest.json"
_NEEDED = ("state.json", "optimizer.safetensors")


@dataclass
class Checkpoint:
    """A training at one step.

    Attributes:
        step: training steps done.
        modules: the tensors of each module by name: "model" with the raw weights, "ema" with the average, further
            averages, the "history" of the losses where noise levels are drawn by importance, and the state of the
            "loss" where it has one.
        optimizer: the tensors of the optimizer.
        state: everything else, as values that JSON can hold.
    """

    step: int
    modules: dict[str, dict[str, Tensor]]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def averages(self) -> dict[str, dict[str, Tensor]]:
        """The modules that are averages of the weights."""
        return {k: m for k, m in self.modules.items() if k == "ema" or k.startswith(("ema-", POWER))}


def folder(run: Path) -> Path:
    """The folder of the checkpoints of a run."""
    return run / "checkpoints"


def at_step(run: Path, step: int) -> Path:
    """The folder of the checkpoint of a step."""
    return folder(run) / f"step-{step:08d}"


def saved_steps(run: Path) -> list[int]:
    """The steps of all checkpoints, damaged or not, in ascending order."""
    return sorted(_numbered(run, "step"))


def snapshots(run: Path) -> dict[int, Path]:
    """The folders of the snapshots of power-function averages by step, in ascending order."""
    return dict(sorted(_numbered(run, "snapshot").items()))


def _numbered(run: Path, kind: str) -> dict[int, Path]:
    """The folders named like step-00001000 or snapshot-00001000."""
    paths = folder(run).iterdir() if folder(run).is_dir() else ()
    return {int(p.name[len(kind) + 1 :]): p for p in paths if re.fullmatch(rf"{kind}-\d{{8,}}", p.name)}


def save(run: Path, checkpoint: Checkpoint, name: str | None = None) -> Path:
    """Write a checkpoint and return its folder, which is named after its step unless `name` is given.

    It is written to a temporary folder, flushed to the disk and then renamed, so a partly written checkpoint never has
    the name of a complete one, and earlier ones are not touched.

    Raises:
        InputError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    from safetensors import SafetensorError

    target = at_step(run, checkpoint.step) if name is None else folder(run) / name
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}")
    try:
        folder(run).mkdir(parents=True, exist_ok=True)
        _clear_leftovers(run)
        temporary.mkdir()
        _write(temporary, checkpoint)
        if target.exists():
            target.rename(target.with_name(f".tmp-old-{target.name}"))
        temporary.rename(target)
        _flush(folder(run))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(f"checkpoint: {target} cannot be written ({_line(error)}); earlier ones are intact") from error
    _clear_leftovers(run)
    return target


def _write(place: Path, checkpoint: Checkpoint) -> None:
    from safetensors.torch import save_file

    for name, module in {**checkpoint.modules, "optimizer": checkpoint.optimizer}.items():
        # copies, since safetensors refuses tensors that share memory, such as tied weights
        host = {key: t.detach().to("cpu", copy=True).contiguous() for key, t in module.items()}
        save_file(host, place / f"{name}.safetensors")
    state = {"schema": _SCHEMA, "step": checkpoint.step, **checkpoint.state}
    (place / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    files = sorted(place.iterdir())
    for file in files:
        file.chmod((place / "state.json").stat().st_mode)  # safetensors makes files readable by their owner only
        _flush(file)
    manifest = {file.name: {"size": file.stat().st_size, "sha256": _digest(file)} for file in files}
    (place / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _flush(place / _MANIFEST)
    _flush(place)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint in a folder, in a few words; None if every file matches the manifest."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        present = {file.name for file in path.iterdir()} - {_MANIFEST}
        for name in sorted({*manifest, *present, *_NEEDED}):
            if name not in manifest:
                return f"{name} is not in its manifest"
            if name not in present:
                return f"{name} is missing"
            size, wanted = (path / name).stat().st_size, manifest[name]
            if size != wanted["size"]:
                return f"{name} has {size} bytes instead of {wanted['size']}"
            if _digest(path / name) != wanted["sha256"]:
                return f"{name} has another SHA-256 than when it was written"
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} cannot be read ({_line(error)})"
    return None


def newest(run: Path) -> Path:
    """The newest intact checkpoint; a line on stderr names newer ones that are damaged.

    Raises:
        InputError: there is none, or all are damaged.
    """
    reports: list[str] = []
    for step in reversed(saved_steps(run)):
        path = at_step(run, step)
        wrong = damage(path)
        if wrong is None:
            for report in reports:
                print(f"checkpoint {report}; using {path.name} instead", file=sys.stderr)
            return path
        reports.append(f"{path} is damaged: {wrong}")
    if not reports:
        raise InputError(f"run: there is no checkpoint in {folder(run)}; give the folder of a training that saved one")
    raise InputError(f"run: no checkpoint in {folder(run)} is intact: {'; '.join(reports)}; train again")


def find(run: Path, which: str = "last") -> Path:
    """The folder of the checkpoint "last", "best", a step number or "length-0.1".

    Raises:
        InputError: there is no such checkpoint.
    """
    if which == "last":
        return newest(run)
    lengths = sorted(p.name for p in folder(run).glob("length-*"))
    if which in lengths:
        return folder(run) / which
    step = _best_step(run) if which == "best" else int(which) if which.isdecimal() else None
    known = saved_steps(run)
    if step is None or step not in known:
        more = "".join(f", or {name}" for name in lengths)
        raise InputError(
            f"checkpoint: {which} is not in {folder(run)}; give last, best or one of the steps {known}{more}"
        )
    return at_step(run, step)


def read(path: Path) -> Checkpoint:
    """Load a checkpoint, on the CPU.

    Raises:
        InputError: it is damaged, or of an unknown schema version.
    """
    wrong = damage(path)
    if wrong is not None:
        raise InputError(f"checkpoint: {path} is damaged: {wrong}; use another one")
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if state["schema"] != _SCHEMA:
        raise InputError(
            f"checkpoint: {path} has schema {state['schema']} but this version reads {_SCHEMA}; "
            "use the version that wrote it"
        )
    modules = {name: tensors(path, name) for name in sorted(file.stem for file in path.glob("*.safetensors"))}
    optimizer = modules.pop("optimizer")
    return Checkpoint(state["step"], modules, optimizer, state)


def tensors(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one module in the folder of an intact checkpoint, on the CPU."""
    from safetensors.torch import load_file

    return load_file(path / f"{name}.safetensors")


def record_best(run: Path, best: dict[str, Any] | None) -> None:
    """Record the best checkpoint, {"step", "metric", "value"}; None if there is none."""
    file, temporary = folder(run) / "best.json", folder(run) / ".tmp-best.json"
    if best is None:
        file.unlink(missing_ok=True)
        return
    temporary.write_text(json.dumps(best) + "\n", encoding="utf-8")
    _flush(temporary)
    temporary.replace(file)
    _flush(folder(run))


def prune(run: Path, keep_last: int, keep: Collection[int] = ()) -> None:
    """Delete all checkpoints but the newest `keep_last` and those of the steps in `keep`."""
    for step in saved_steps(run)[:-keep_last]:
        if step not in keep:
            # renamed first: an interrupted deletion must not look like a damaged checkpoint
            at_step(run, step).rename(folder(run) / f".tmp-old-{step}")
    _clear_leftovers(run)


def set_aside(run: Path, after: int) -> None:
    """Rename checkpoints of later steps than `after` to aside-..., so that a training can resume from there.

    They are damaged, or belong to a continuation that was abandoned. Later snapshots are deleted.
    """
    for path in (path for step, path in snapshots(run).items() if step > after):
        path.rename(folder(run) / f".tmp-old-{path.name}")
    _clear_leftovers(run)
    for path in (at_step(run, step) for step in saved_steps(run) if step > after):
        number = 1 + sum(1 for _ in folder(run).glob(f"aside-*-{path.name}"))
        path.rename(path.with_name(f"aside-{number}-{path.name}"))


def _best_step(run: Path) -> int | None:
    file = folder(run) / "best.json"
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["step"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"checkpoint: {file} cannot be read ({_line(error)}); give last or a step") from error


def _clear_leftovers(run: Path) -> None:
    """Remove what a killed program left behind; a run folder has one writer, so it is not in use."""
    for path in folder(run).glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Flush the contents of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
