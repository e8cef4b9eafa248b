"""Samples in a file: those of `scoresde sample` with how they were drawn, or an array of anybody's in data units."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.build import TARGET
from scoresde.constraints import checked
from scoresde.control.guidance import Label
from scoresde.data import Transform
from scoresde.data.numpy_files import read_npy, read_npz, readable
from scoresde.errors import InputError, refuse
from scoresde.files import read_json
from scoresde.named import name_of
from scoresde.results import Row
from scoresde.runs.config import get
from scoresde.runs.folder import SUMMARY

FILE = "samples.npz"
_ARRAYS = ("samples", "arr_0")  # names in a .npz file
_SAMPLED: dict[str, Any] = {"run": str, "n": int, "seed": int, "nfe": float, "seconds": float}
_SAMPLED |= {f"sampler.solver.{TARGET}": str, "sampler.steps": int | None}


@dataclass(frozen=True)
class Saved:
    """Samples in data units, from a file.

    Attributes:
        path: the file.
        data: (n, *event).
        summary: how `scoresde sample` drew them; empty of others.
        key: of the setting that names the file, for messages.
    """

    path: Path
    data: np.ndarray
    summary: dict[str, Any]
    key: str

    @classmethod
    def read(cls, path: Path, key: str = "samples") -> "Saved":
        """From a folder of `scoresde sample`, or a .npz or .npy file.

        Raises:
            InputError: it is not there, damaged, holds Python objects or several arrays, or what it says is not so.
        """
        file = path / FILE if path.is_dir() else path
        missing = f"{path} has no {FILE}" if path.is_dir() else f"there is no file {path} (seen from {Path.cwd()})"
        refuse(not file.is_file(), f"{key}: {missing}; give a folder made by scoresde sample, or a .npz or .npy file")
        refuse(file.suffix not in (".npz", ".npy"), f"{key}: {file} is no .npz or .npy file; save it with numpy")
        data, note = _array(file, key), file.with_name(SUMMARY)
        summary = read_json(note, key) if file.name == FILE and note.is_file() else {}
        for name, kind in _SAMPLED.items() if "sampler" in summary else ():
            checked(get(summary, name), f"{key}: {note}: {name}", kind)
        n = summary.get("n", len(data)) if "sampler" in summary else len(data)
        refuse(n != len(data), f"{key}: {note} says n = {n}, and {file} holds {len(data)}; draw the samples again")
        return cls(file, data, summary if "sampler" in summary else {}, key)

    @property
    def row(self) -> Row:
        """A row without values, with how they were drawn."""
        if not self.summary:
            return Row(self.path.name)
        solver, steps = self.summary["sampler"]["solver"], self.summary["sampler"].get("steps")
        name, steps = name_of("solver", solver), None if "rtol" in solver else steps
        label = name if steps is None else f"{name} {steps}"
        return Row(label, steps=steps, nfe=self.summary["nfe"], seconds=[self.summary["seconds"]])

    @property
    def label(self) -> Label:
        """The class of the samples, or several in turn; None without one."""
        found: Label = checked(self.summary.get("label"), f"{self.key}: {self.path}: label", int | list[int] | None)
        return found

    @property
    def guidance(self) -> str:
        """How they were guided, in words that follow a name; empty if they were not."""
        if self.summary.get("guidance", 1) == 1 and self.label is None:
            return ""
        method = self.summary.get("guidance_method")
        by = f" by {name_of('guidance_method', method)}" if method else ""
        return f", drawn with label {self.label} and guidance {self.summary.get('guidance', 1):g}{by}"

    def encoded(self, transform: Transform) -> Tensor:
        """The samples (n, *event) in model units, float32.

        Raises:
            InputError: another shape, values that are no finite numbers or beyond the data units.
        """
        where, data, shape = f"{self.key}: {self.path}", self.data, tuple(transform.event_shape)
        refuse(data.dtype.kind not in "buif", f"{where} holds {data.dtype}, not numbers; give samples in data units")
        wanted = f"{where} holds an array of shape {data.shape}, and samples have shape (n, {_in_words(shape)})"
        refuse(data.shape[1:] != shape or not len(data), f"{wanted}{_remedy(data.shape[1:], shape)}")
        bad = np.flatnonzero(~np.isfinite(data).reshape(len(data), -1).all(1))
        refuse(len(bad) > 0, f"{where}: {len(bad)} of {len(data)} samples are not finite, the first is {[*bad, 0][0]}")
        low, high = (math.nan if end is None else end for end in (transform.low, transform.high))
        least, most = float(data.min()), float(data.max())
        span = f"{where} has values from {least:.4g} to {most:.4g}, and data units are {low:g} to {high:g}"
        refuse(least < low or most > high, f"{span}; give samples in data units")
        small = (transform.levels or 0) > 2 and most <= 1 and bool((data % 1 != 0).any())
        refuse(small, f"{span}; these are in another unit: multiply them, or give integers")
        return transform.encode(torch.from_numpy(np.ascontiguousarray(data)).float())


def _in_words(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _remedy(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """What to do about events of another shape."""
    last = len(shape) == 3 and found == (*shape[1:], shape[0])
    if last:
        return "; channels come first: numpy.moveaxis(samples, -1, 1)"
    return "; give numpy.expand_dims(samples, 1)" if shape[:1] == (1,) and found == shape[1:] else ""


def _array(file: Path, key: str) -> np.ndarray:
    """The array of samples in a file."""
    where = f"{key}: {file}"
    if file.suffix == ".npy":
        with readable(file, where), file.open("rb") as stream:
            return read_npy(stream, file.stat().st_size, where)
    arrays = read_npz(file, where)
    names = [name for name in _ARRAYS if name in arrays] or list(arrays) * (len(arrays) == 1)
    if not names:
        raise InputError(f"{where} holds the arrays {', '.join(arrays) or 'none'}; name that of the samples 'samples'")
    return arrays[names[0]]
