"""Checkpoints on disk: written atomically, verified by a manifest, without pickle.

<run>/checkpoints/best.json          {"step", "metric", "value"} of the best one
<run>/checkpoints/step-00001000/
    model.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json
    model/shard-00001-...safetensors    in the place of model.safetensors, where each process writes its part
    ema-0.9999.safetensors, power-0.1.safetensors    further averages, if there are any
<run>/checkpoints/snapshot-00001000/    the power-function averages at that step; never pruned
<run>/checkpoints/length-0.1/           an average computed from them after the training, as ema.safetensors
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde.errors import InputError, one_line, refuse
from scoresde.files import flush, read_json, strict_json, write_json, writing
from scoresde.parallel import joined
from scoresde.training.manifest import damage as damage
from scoresde.training.manifest import digest, seal
from scoresde.training.power_ema import POWER

if TYPE_CHECKING:
    from torch import Tensor

    from scoresde.training.job import Best


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
        seconds: of training up to this step; with `record`, the only part that is not a function of the seed.
        record: SHA-256 of the values that were logged up to this step.
    """

    step: int
    modules: Mapping[str, Mapping[str, Tensor]]
    optimizer: Mapping[str, Tensor]
    state: dict[str, Any]
    seconds: float = 0.0
    record: str | None = None

    @property
    def parts(self) -> dict[str, Mapping[str, Tensor]]:
        """The optimizer, which is the largest, and the modules, in the order in which they are written."""
        return {"optimizer": self.optimizer, **self.modules}

    @property
    def cut(self) -> dict[str, Mapping[str, Tensor]]:
        """The parts of which each process holds a part."""
        return {k: m for k, m in self.parts.items() if any(hasattr(t, "placements") for t in m.values())}

    @property
    def averages(self) -> dict[str, Mapping[str, Tensor]]:
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
    return list(_numbered(run, "step"))


def snapshots(run: Path) -> dict[int, Path]:
    """The folders of the snapshots of power-function averages by step, in ascending order."""
    return _numbered(run, "snapshot")


def _numbered(run: Path, kind: str, after: int = -1) -> dict[int, Path]:
    """The folders named like step-00001000 or snapshot-00001000, of the steps after one, by step in ascending order."""
    paths = (p for p in folder(run).glob(f"{kind}-*") if re.fullmatch(r"\d{8,}", p.name.removeprefix(f"{kind}-")))
    found = {int(p.name.removeprefix(f"{kind}-")): p for p in paths}
    return {step: found[step] for step in sorted(found) if step > after}


def save(run: Path, checkpoint: Checkpoint, name: str | None = None) -> Path:
    """Write a checkpoint and return its folder, which is named after its step unless `name` is given.

    It is written to a temporary folder, flushed to the disk and then renamed, so a partly written checkpoint never has
    the name of a complete one, and earlier ones are not touched.

    Raises:
        InputError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    from safetensors import SafetensorError

    target = at_step(run, checkpoint.step) if name is None else folder(run) / name
    names = (f".tmp-{target.name}-{os.getpid()}", f".tmp-old-{target.name}")
    temporary, former = map(target.with_name, names)
    try:
        folder(run).mkdir(exist_ok=True)  # but not the run, which was moved if it is not there
        _clear_leftovers(run)
        temporary.mkdir()
        _write(temporary, checkpoint)
        if target.exists():
            target.rename(former)
        temporary.rename(target)
        flush(folder(run))
    except (OSError, InputError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            former.rename(target)
        reason = one_line(error)
        raise InputError(f"checkpoint: {target} cannot be written ({reason}); earlier ones are intact") from error
    _clear_leftovers(run)
    return target


def save_part(checkpoint: Checkpoint) -> None:
    """Write what this process holds of a checkpoint, while the first one saves it."""
    from scoresde.training.shards import write

    place = Path(joined().share())
    for name, module in checkpoint.cut.items():
        write(place / name, module)


def _write(place: Path, checkpoint: Checkpoint) -> None:
    from safetensors.torch import save_file

    from scoresde.training.shards import write
    from scoresde.training.stored import SCHEMA

    if checkpoint.cut:
        joined().share(str(place.absolute()))
    with ThreadPoolExecutor() as pool:
        digests = {}
        for name, module in checkpoint.parts.items():
            if name in checkpoint.cut:
                write(place / name, module)
                continue
            save_file(_apart(module), file := place / f"{name}.safetensors")
            digests[file] = pool.submit(digest, file)  # while others are written
        state = {"schema": SCHEMA, "step": checkpoint.step, **checkpoint.state}
        state |= {"seconds": checkpoint.seconds, "record": checkpoint.record}
        (place / "state.json").write_text(strict_json(state), encoding="utf-8")
        seal(place, pool, digests)


def _apart(module: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, with copies of tensors that share memory, such as tied weights, which safetensors refuses."""
    owners = Counter(t.untyped_storage().data_ptr() for t in module.values())
    shared = {key: owners[t.untyped_storage().data_ptr()] > 1 for key, t in module.items()}
    return {key: t.detach().to("cpu", copy=shared[key]).contiguous() for key, t in module.items()}


def newest(run: Path) -> Path:
    """The newest intact checkpoint; a line on stderr names newer ones that are damaged.

    Raises:
        InputError: there is none, or all are damaged.
    """
    reports: list[str] = []
    for path in reversed(_numbered(run, "step").values()):
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
    paths = {str(step): path for step, path in _numbered(run, "step").items()}
    paths |= {path.name: path for path in sorted(folder(run).glob("length-*"))}
    name = _best_step(run) if which == "best" else which.lstrip("0")
    if name not in paths:
        known = ", ".join(["last", "best", *paths])
        raise InputError(f"checkpoint: {which} is not in {folder(run)}; give one of {known}")
    return paths[name]


def read(path: Path) -> Checkpoint:
    """Load a checkpoint, on the CPU.

    Raises:
        InputError: it is damaged, of an unknown schema version, or holds what no training has written.
    """
    wrong = damage(path)
    refuse(wrong is not None, f"checkpoint: {path} is damaged: {wrong}; use another one")
    from scoresde.training.stored import names, read_state, tensors  # imports torch

    state = read_state(path / "state.json")
    modules = {name: tensors(path, name) for name in names(path)}
    optimizer = modules.pop("optimizer")
    seconds, record = state.pop("seconds", 0.0), state.pop("record", None)  # older versions have none
    return Checkpoint(state["step"], modules, optimizer, state, seconds, record)


def record_best(run: Path, best: Best | None) -> None:
    """Record the best checkpoint; None if there is none."""
    file = folder(run) / "best.json"
    if best is not None:
        write_json(file, asdict(best))
        return
    with writing(file):
        file.unlink(missing_ok=True)


def prune(run: Path, keep_last: int, keep: Collection[int] = ()) -> None:
    """Delete all checkpoints but the newest `keep_last` and those of the steps in `keep`."""
    older = saved_steps(run)[:-keep_last]
    _delete(run, (at_step(run, step) for step in older if step not in keep))


def set_aside(run: Path, after: int) -> None:
    """Rename checkpoints of later steps than `after` to aside-..., so that a training can resume from there.

    They are damaged, or belong to a continuation that was abandoned. Later snapshots are deleted.
    """
    _delete(run, _numbered(run, "snapshot", after).values())
    for path in _numbered(run, "step", after).values():
        number = 1 + len(list(folder(run).glob(f"aside-*-{path.name}")))
        with writing(path):
            path.rename(path.with_name(f"aside-{number}-{path.name}"))


def _delete(run: Path, paths: Iterable[Path]) -> None:
    """Delete folders; renamed first, since an interrupted deletion must not look like a damaged checkpoint."""
    for path in paths:
        with writing(path):
            path.rename(path.with_name(f".tmp-old-{path.name}"))
    _clear_leftovers(run)


def _best_step(run: Path) -> str | None:
    file = folder(run) / "best.json"
    return str(read_json(file, "checkpoint").get("step")) if file.is_file() else None


def _clear_leftovers(run: Path) -> None:
    """Remove what a killed program left behind; a run folder has one writer, so it is not in use."""
    for path in folder(run).glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def require_resumable(start: Checkpoint, path: Path, steps: int, seed: int, data: Mapping[str, Any]) -> None:
    """Raise InputError for settings and data with which the training of a checkpoint cannot go on."""
    state = start.state
    refuse(start.step > steps, f"steps: {steps} is fewer than the {start.step} done in {path}; give more")
    refuse(seed != state["seed"], f"seed: {seed} is not the {state['seed']} of {path}; resume with that one")
    for part in ("train", "heldout"):
        now, then = data[part], state["data"][part]
        wanted = f"{path} was trained with {then}; resume with the same data"
        refuse(now != then, f"data: {now} {part} items, but {wanted}")
