"""Random numbers as a function of (seed, purpose, step, sample index), never of a global generator.

Sample k therefore gets the same numbers whatever the size of its batch, its neighbours or the number of devices, and a
training resumed at step n needs no saved generator.

On the CPU the numbers come from numpy's PCG64DXSM, which jumps at no cost to where a sample begins, so any
contiguous range of samples is one draw. Two 32-bit integers make two normals by the Box-Muller transform.
On CUDA they come from torch's Philox in blocks of fixed size. The two differ from each other; each is reproducible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.errors import require

_BLOCK = 64  # samples that share one CUDA generator; a constant, since it defines the numbers


def check_seed(seed: object) -> None:
    """Refuse a seed that is no integer: None, 1.5 or a generator would be a seed of its own, by its text."""
    require(isinstance(seed, Integral) and not isinstance(seed, bool), "seed", seed, "give an integer, such as 0")


class _Key(np.random.bit_generator.ISeedSequence):
    """256 bits that depend on all arguments and look independent for different ones."""

    def __init__(self, seed: int, purpose: str, step: int, block: int = 0) -> None:
        check_seed(seed)
        self.digest = blake2b(f"{seed}/{purpose}/{step}/{block}".encode(), digest_size=32).digest()

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """The seed of a bit generator of numpy: here its first state and the number of its stream."""
        return np.frombuffer(self.digest, dtype=dtype)[:n_words]

    def integer(self) -> int:
        """63 of the bits, for generators that want one number."""
        return int.from_bytes(self.digest[:8], "little") >> 1


def _raw(key: _Key, rows: range, width: int) -> np.ndarray:
    """The 64-bit words (len(rows), width) of some rows of the stream that belongs to `key`; each row has `width`."""
    generator = np.random.PCG64DXSM(key)  # type: ignore[arg-type]  # the stubs know one kind of seed only
    generator.advance(rows.start * width)
    if rows.step == 1:
        return generator.random_raw(len(rows) * width).reshape(-1, width)
    words = np.empty((len(rows), width), dtype=np.uint64)
    for row in words:
        row[:] = generator.random_raw(width)
        generator.advance((rows.step - 1) * width)
    return words


def _box_muller(words: np.ndarray) -> Tensor:
    """Two normal numbers of each 64-bit word (count, pairs), float32 (count, 2 pairs); no row depends on another."""
    count, pairs = words.shape
    halves = words.view(np.uint32)
    # inside (0, 1] with full relative precision near 0, so that the logarithm is finite and the tails are right
    uniform = torch.from_numpy(halves[:, :pairs].astype(np.float32)).add_(0.5).mul_(2.0**-32)
    angle = torch.from_numpy(halves[:, pairs:].astype(np.float32)).mul_(2.0**-32 * 2.0 * math.pi)
    radius = uniform.log_().mul_(-2.0).sqrt_()
    z = torch.empty(count, 2 * pairs)
    torch.mul(angle.cos(), radius, out=z[:, :pairs])
    torch.mul(angle.sin_(), radius, out=z[:, pairs:])
    return z


def _normal_blocks(seed: int, purpose: str, step: int, rows: range, size: int, device: torch.device) -> Tensor:
    blocks = range(rows[0] // _BLOCK, rows[-1] // _BLOCK + 1)
    parts = []
    for block in blocks:
        generator = torch.Generator(device).manual_seed(_Key(seed, purpose, step, block).integer())
        parts.append(torch.randn(_BLOCK, size, generator=generator, device=device))
    first = rows.start - blocks.start * _BLOCK
    return torch.cat(parts)[first :: rows.step][: len(rows)]


@dataclass(frozen=True)
class Noise:
    """The random numbers of some samples of a seed.

        Noise(seed, range(500, 1000)).normal(...)  ==  Noise(seed).normal(...)[500:1000]

    Args:
        seed: any integer.
        rows: the indices of the samples, a range of step >= 1; None for 0, 1, 2, ..., as many as are asked for.

    Raises:
        InputError: the seed is no integer, or rows is not such a range; from a draw whose size is not that of rows.
    """

    seed: int
    rows: range | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        valid = self.rows is None or (isinstance(self.rows, range) and self.rows.step >= 1 and self.rows.start >= 0)
        require(valid, "rows", self.rows, "give a rising range of indices >= 0, such as range(500, 1000)")

    def _rows(self, count: int) -> range:
        rows = range(count) if self.rows is None else self.rows
        require(len(rows) == count, "rows", self.rows, f"give as many as are drawn, {count}")
        return rows

    def normal(
        self,
        purpose: str,
        step: int,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Standard normal numbers of shape (B, *event); the same for every dtype, up to the rounding of float32."""
        rows, size, device = self._rows(shape[0]), math.prod(shape[1:]), torch.device(device)
        if len(rows) == 0:
            return torch.empty(tuple(shape), device=device, dtype=dtype)
        if device.type == "cpu":
            z = _box_muller(_raw(_Key(self.seed, purpose, step), rows, (size + 1) // 2))[:, :size]
        else:
            z = _normal_blocks(self.seed, purpose, step, rows, size, device)
        return z.reshape(tuple(shape)).to(dtype)

    def uniform(self, purpose: str, step: int, shape: int | Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1) of shape (B,) or (B, *event), float64, on the CPU."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        words = _raw(_Key(self.seed, purpose, step), self._rows(shape[0]), math.prod(shape[1:]))
        return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def parts(rows: range, count: int) -> list[range]:
    """Cut a batch into `count` interleaved parts: sample i belongs to part i mod count.

    Micro-batches and processes share a batch in this way, so that each sees all noise levels of a stratified batch.
    """
    return [rows[k::count] for k in range(count)]


def chunks(rows: range, size: int) -> list[range]:
    """Cut samples into runs of at most `size` in order, for memory."""
    return [rows[k : k + size] for k in range(0, len(rows), size)]


def take(x: Tensor, rows: range) -> Tensor:
    """The given rows of x (B, ...), as a view."""
    return x[rows.start : rows.stop : rows.step]


def permutation(seed: int, purpose: str, step: int, n: int) -> Tensor:
    """A permutation of 0 ... n - 1, int64, as a function of (seed, purpose, step)."""
    generator = np.random.Generator(np.random.PCG64DXSM(_Key(seed, purpose, step)))  # type: ignore[arg-type]
    return torch.from_numpy(generator.permutation(n))


def derived_seed(seed: int, purpose: str, step: int) -> int:
    """A 63-bit seed for code that insists on a generator of its own, such as dropout."""
    return _Key(seed, purpose, step).integer()
