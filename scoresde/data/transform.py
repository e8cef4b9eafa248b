"""The affine map between data units and model units; no other module knows pixels or scalers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from scoresde.constraints import checked, hints
from scoresde.data.columns import Column, settled
from scoresde.errors import InputError, one_line, refuse

Kind = Literal["image", "points", "table"]
Names = tuple[str, ...] | None


@dataclass(frozen=True)
class Transform:
    """Maps data units to model units and back: model = (data - mean) / scale.

    Args:
        kind: how figures show it: "image" (channels, height, width), "points" of a plane whose axes have one unit, or
            "table" (features, each with its own unit).
        event_shape: shape of one item; every tensor given to the methods is (B, *event_shape).
        mean: in data units; one number, or one for each feature of the flattened event.
        scale: likewise.
        low: lower bound of data units; None if there is none.
        high: upper bound of data units; None if there is none.
        levels: number of integer levels low, low + 1, ..., high; None for data that is not quantised.
        names: the name of each feature, or None.
        columns: of a table, what each is; None for numbers.
        dtype: numpy name of the type of finished samples.

    The maps of images have a power of two as scale (8-bit: data / 128 - 1), so each level is exact in float32
    and `decode(encode(x)) == x`; elsewhere that holds to rounding.

    Raises:
        ValueError: mean or scale does not fit the event shape, or a scale is not a positive number.
    """

    kind: Kind
    event_shape: tuple[int, ...]
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0
    _: KW_ONLY
    low: float | None = None
    high: float | None = None
    levels: int | None = None
    names: Names = None
    columns: tuple[Column, ...] | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        size = math.prod(self.event_shape)
        for name, value in (("mean", self.mean), ("scale", self.scale)):
            if isinstance(value, Sequence) and len(value) != size:
                raise ValueError(f"{name}: {len(value)} numbers for an event of {size} values")
        if not np.isfinite(self.mean).all():
            raise ValueError("mean: must be finite")
        if not (np.isfinite(self.scale).all() and np.min(self.scale) > 0):
            raise ValueError("scale: must be finite and positive")

    @classmethod
    def of_levels(cls, event_shape: tuple[int, ...], bits: int = 8, dtype: str = "uint8") -> Transform:
        """The transform of images (channels, height, width) with 2^bits levels: level / 2^(bits - 1) - 1."""
        half, levels = 2.0 ** (bits - 1), 2**bits
        return cls("image", tuple(event_shape), half, half, low=0.0, high=levels - 1.0, levels=levels, dtype=dtype)

    @classmethod
    def of_bits(cls, event_shape: tuple[int, ...]) -> Transform:
        """The transform of bits, 2 bit - 1; images if there are three axes."""
        kind: Kind = "image" if len(event_shape) == 3 else "table"
        return cls(kind, tuple(event_shape), 0.5, 0.5, low=0.0, high=1.0, levels=2, dtype="uint8")

    @classmethod
    def standardising(
        cls, train: np.ndarray, kind: Kind, *, per_feature: bool, dtype: str = "float32", **about: Any
    ) -> Transform:
        """The transform that gives training data (N, *event) mean 0 and standard deviation 1.

        Each feature gets its own mean; each its own scale too if `per_feature` (1 where it is constant), else
        all share the root mean square of the standard deviations, which keeps angles and shapes. `about` are other
        arguments.
        """
        flat = train.reshape(len(train), -1)
        # Rounding would leave a constant column with a mean and a deviation that are 1e-17 off: compare its values.
        constant = flat.max(axis=0) == flat.min(axis=0)
        mean = np.where(constant, flat[0], flat.mean(axis=0, dtype=np.float64))
        deviation = flat.std(axis=0, dtype=np.float64)
        scale: Any = tuple(np.where(constant, 1.0, deviation).tolist())
        if not per_feature:
            scale = 1.0 if constant.all() else float(np.sqrt(np.mean(deviation**2)))
        return cls(kind, train.shape[1:], tuple(mean.tolist()), scale, dtype=dtype, **about)

    @property
    def of_columns(self) -> list[str] | None:
        """The name of the column of each feature; None without names."""
        if self.names is None or self.columns is None:
            return None if self.names is None else list(self.names)
        return [column.name for column in self.columns for _ in column.features]

    @property
    def log_volume(self) -> float:
        """log |d data / d model| of an item, in nats: log p in data units is log p in model units less this.

        In bits per dimension it is 7 of 256 levels over [-1, 1), log2(128).
        """
        size = math.prod(self.event_shape)
        return float(np.broadcast_to(np.log(self.scale), (size,)).sum())

    def encode(self, x: Tensor | np.ndarray) -> Tensor:
        """Data units (B, *event) to model units; float32 unless x is float64."""
        x = torch.from_numpy(np.require(x, requirements=["C", "W"])) if isinstance(x, np.ndarray) else x
        mean, scale, work = self._constants(x)
        out = (x.to(work) - mean) / scale
        return out.to(x.dtype if x.is_floating_point() else torch.float32)

    def decode(self, x: Tensor) -> Tensor:
        """Model units (B, *event) to data units, of the type of x: the inverse of `encode`, without clipping."""
        mean, scale, work = self._constants(x)
        return (x.to(work) * scale + mean).to(x.dtype)

    def dequantised(self, x: Tensor, u: Tensor) -> Tensor:
        """Items of levels (B, *event) in model units, spread over the cells that `finish` rounds to them.

        Args:
            x: the items.
            u: uniform numbers in [0, 1) of their shape.

        Raises:
            InputError: the data have no levels.
        """
        refuse(self.levels is None, "trainer.dequantise: true is for data of levels, such as images; give false")
        _, scale, work = self._constants(x)
        return (x + (u.to(x.device, work) - 0.5) / scale).to(x.dtype)

    def finish(self, x: Tensor) -> np.ndarray:
        """Samples (B, *event) in model units as the user gets them: data units, of type `dtype`.

        Clipped to [low, high], and rounded to the nearest level where the data has levels, or as columns ask.

        Raises:
            InputError: quantised data cannot express a NaN.
        """
        # In float64 whatever x is: a column far from zero (years, time stamps) loses its digits in float32.
        out = self.decode(x.detach().to("cpu", torch.float64)).numpy()
        if self.low is not None or self.high is not None:
            out = np.clip(out, self.low, self.high)
        if self.levels is not None:
            bad = np.isnan(out).reshape(len(out), -1).any(axis=1).sum()
            refuse(bad, f"samples: {bad} of {len(out)} hold NaN; try more sampler.steps or another solver")
            out = np.rint(out)
        if self.columns is not None:
            out = settled(self.columns, out)
        return out.astype(self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON can hold; floats survive exactly."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Transform:
        """The inverse of `to_dict`.

        Raises:
            InputError: fields of other names or types, or numbers that fit no transform.
        """
        kinds, columns = hints(cls), fields.get("columns") or ()
        try:
            values = {k: checked(v, f"transform.{k}", kinds[k]) for k, v in fields.items() if k != "columns"}
            own = tuple(Column(name, kind, tuple(texts)) for name, kind, texts in columns)
            return cls(**values, columns=own or None)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"transform: not one of this library ({one_line(error)})") from None

    def _constants(self, x: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
        """Mean and scale that broadcast over x, and the type to compute in."""
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(f"shape {tuple(x.shape)} is not (batch, *{self.event_shape})")
        # Levels are exact in float32; that halves the memory for a large folder of images.
        work = torch.float32 if self.levels is not None and x.dtype != torch.float64 else torch.float64
        both = (torch.tensor(value, dtype=work, device=x.device) for value in (self.mean, self.scale))
        mean, scale = (value.reshape(self.event_shape) if value.ndim else value for value in both)
        return mean, scale, work
