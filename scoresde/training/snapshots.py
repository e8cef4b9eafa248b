"""Snapshots of power-function averages on disk, and the average of any length that is computed from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from scoresde.errors import InputError, refuse
from scoresde.training import checkpoint as checkpoints
from scoresde.training.checkpoint import Checkpoint
from scoresde.training.power_ema import POWER, Profile, combination, exponent
from scoresde.training.state import module_state, require_same
from scoresde.training.stored import names, tensors


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
    start = next((t for name, t in end.modules.items() if name.startswith(POWER)), None)
    if start is None:
        raise InputError(f"run: {place} has no power-function averages; train with trainer.ema_power=[0.05,0.1]")
    sources = list(_sources(run, place, end.step))
    factors, error = combination([profile for profile, _, _ in sources], Profile(gamma, end.step))
    weights = dict(module.named_parameters(remove_duplicate=False))
    sums = {name: torch.zeros_like(weight, dtype=torch.float64, device="cpu") for name, weight in weights.items()}
    for factor, (_, path, stem) in zip(factors, sources, strict=True):
        stored = tensors(path, stem)
        require_same(stored, module_state(module), path / f"{stem}.safetensors")
        for name, total in sums.items():
            total.add_(stored[name], alpha=factor)
    ema = dict(start) | {name: total.to(start[name].dtype) for name, total in sums.items()}
    state = {**end.state, "length": length, "profile_error": error}
    path = checkpoints.save(run, Checkpoint(end.step, {"ema": ema}, {}, state), f"length-{length}")
    return Reconstruction(path, end.step, len(sources), error)


def _sources(run: Path, end: Path, last: int) -> Iterator[tuple[Profile, Path, str]]:
    """Every average up to the checkpoint `end` of step `last`: its profile, and the folder and name of its file."""
    paths = {step: path for step, path in checkpoints.snapshots(run).items() if step < last}
    for step, path in {**paths, last: end}.items():
        wrong = checkpoints.damage(path)
        refuse(wrong is not None, f"snapshot: {path} is damaged: {wrong}; delete the folder to use the others")
        for name in names(path):
            if name.startswith(POWER):
                yield Profile(_exponent(path / name), step), path, name


def _exponent(file: Path) -> float:
    try:
        return exponent(float(file.name.removeprefix(POWER)))
    except ValueError:
        wanted = f"is not named by a length in (0, 0.288), such as {POWER}0.1; delete its folder to use the others"
        raise InputError(f"snapshot: {file} {wanted}") from None
