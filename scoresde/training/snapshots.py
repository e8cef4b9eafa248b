"""Snapshots of power-function averages on disk, and the average of any length that is computed from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.power_ema import PowerAverage, Profile, combination, exponent
from scoresde.training.state import module_state

_PREFIX = "power-"


def save(run: Path, step: int, averages: dict[str, PowerAverage[Any]]) -> Path:
    """Write the power-function averages at this step.

    Raises:
        InputError: the snapshot cannot be written.
    """
    modules = {name: module_state(average.module) for name, average in averages.items()}
    return checkpoints.save(run, Checkpoint(step, modules, {}, {}), f"snapshot-{step:08d}")


@dataclass(frozen=True)
class Reconstruction:
    """An average computed from snapshots.

    Attributes:
        path: its folder; `scoresde sample checkpoint=<name of the folder>` uses it.
        step: the step at which it ends.
        averages: number of averages that it was computed from.
        error: relative distance of its profile from the exact one, in [0, 1].
    """

    path: Path
    step: int
    averages: int
    error: float


def reconstruct(run: Path, module: nn.Module, length: float, which: str = "last") -> Reconstruction:
    """Compute the power-function average of another length and write it next to the checkpoints.

        average = sum_i c_i snapshot_i,   c the least-squares fit of the profiles (arXiv 2312.02696, appendix C)

    Args:
        run: the folder of a training with `trainer.ema_power`.
        module: a model of that run, whose parameters are averaged; other tensors are those of the checkpoint.
        length: relative width of the average, in (0, 0.288).
        which: the checkpoint at whose step the average ends: last, best or a step.

    Raises:
        InputError: the length is out of range, or the run has no power-function averages.
    """
    gamma = exponent(length)
    place = checkpoints.find(run, which)
    end = checkpoints.read(place)
    start = next((t for name, t in end.modules.items() if name.startswith(_PREFIX)), None)
    if start is None:
        raise InputError(f"run: {place} has no power-function averages; train with trainer.ema_power=[0.05,0.1]")
    sources = list(_sources(run, place, end.step))
    factors, error = combination([profile for profile, _, _ in sources], Profile(gamma, end.step))
    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    result = {k: torch.zeros_like(t, dtype=torch.float64) if k in weights else t for k, t in start.items()}
    for factor, (_, path, name) in zip(factors, sources, strict=True):
        _add(result, factor, checkpoints.tensors(path, name), weights)
    ema = {k: t.to(start[k].dtype) for k, t in result.items()}
    state = {**end.state, "length": length, "profile_error": error}
    path = checkpoints.save(run, Checkpoint(end.step, {"ema": ema}, {}, state), f"length-{length}")
    return Reconstruction(path, end.step, len(sources), error)


def _sources(run: Path, end: Path, last: int) -> Iterator[tuple[Profile, Path, str]]:
    """Every average up to the checkpoint `end` of step `last`: its profile, and the folder and name of its file."""
    paths = {step: path for step, path in checkpoints.snapshots(run).items() if step < last}
    for step, path in {**paths, last: end}.items():
        wrong = checkpoints.damage(path)
        if wrong is not None:
            raise InputError(f"snapshot: {path} is damaged: {wrong}; delete the folder to use the others")
        for file in sorted(path.glob(f"{_PREFIX}*.safetensors")):
            yield Profile(exponent(float(file.stem.removeprefix(_PREFIX))), step), path, file.stem


@torch.no_grad()
def _add(result: dict[str, Tensor], factor: float, tensors: dict[str, Tensor], weights: set[str]) -> None:
    for name in weights:
        result[name].add_(tensors[name].to(torch.float64), alpha=factor)
