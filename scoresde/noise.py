"""Random numbers as a function of (seed, purpose, step, sample index), never of a global generator.

Sample k therefore gets the same numbers whatever the size of its batch, its neighbours or the number of devices, and a
training resumed at step n needs no saved generator.

On the CPU the numbers come from the counter-based generator Philox: its counter is set to where sample `first` begins,
so any contiguous range of samples is one draw. Two 32-bit integers make two normals by the Box-Muller transform.
On CUDA they come from torch's own Philox in blocks of fixed size. The two differ from each other; each is reproducible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

_BLOCK = 64  # samples that share one CUDA generator; a constant, since it defines the numbers


def _key(seed: int, purpose: str, step: int, block: int = 0) -> np.ndarray:
    """128 bits that depend on all arguments and look independent for different ones."""
    digest = blake2b(f"{seed}/{purpose}/{step}/{block}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype=np.uint64)


def _raw(key: np.ndarray, start: int, count: int) -> np.ndarray:
    """64-bit words number start ... start + count - 1 of the stream that belongs to `key`."""
    counter, skip = divmod(start, 4)  # one counter value of Philox4x64 yields four words
    return np.random.Philox(key=key, counter=counter).random_raw(skip + count)[skip:]


def _box_muller(words: np.ndarray, count: int) -> Tensor:
    """Two normal numbers of each 64-bit word, float32, in `count` rows of which each depends on its own words alone."""
    halves = words.view(np.uint32)
    # inside (0, 1] with full relative precision near 0, so that the logarithm is finite and the tails are right
    uniform = torch.from_numpy(halves[::2].astype(np.float32)).add_(0.5).mul_(2.0**-32)
    angle = torch.from_numpy(halves[1::2].astype(np.float32)).mul_(2.0**-32 * 2.0 * math.pi)
    radius = uniform.log_().mul_(-2.0).sqrt_()
    return torch.cat([part.mul_(radius).view(count, -1) for part in (angle.cos(), angle.sin())], dim=1)


def _normal_cpu(key: np.ndarray, first: int, count: int, size: int) -> Tensor:
    pairs = (size + 1) // 2
    return _box_muller(_raw(key, first * pairs, count * pairs), count)[:, :size]


def _normal_blocks(
    seed: int, purpose: str, step: int, first: int, count: int, size: int, device: torch.device
) -> Tensor:
    blocks = range(first // _BLOCK, (first + count - 1) // _BLOCK + 1)
    parts = []
    for block in blocks:
        generator = torch.Generator(device).manual_seed(int(_key(seed, purpose, step, block)[0] >> np.uint64(1)))
        parts.append(torch.randn(_BLOCK, size, generator=generator, device=device))
    return torch.cat(parts)[first - blocks.start * _BLOCK :][:count]


@dataclass(frozen=True)
class Noise:
    """The random numbers of samples `first`, `first` + 1, ... of one seed.

    Args:
        seed: any integer.
        first: index of the first sample of the batch among all samples of this seed.
    """

    seed: int
    first: int = 0

    def normal(
        self,
        purpose: str,
        step: int,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Standard normal numbers of shape (B, *event); the same for every dtype, up to the rounding of float32."""
        count, size, device = shape[0], math.prod(shape[1:]), torch.device(device)
        if count == 0:
            return torch.empty(tuple(shape), device=device, dtype=dtype)
        if device.type == "cpu":
            z = _normal_cpu(_key(self.seed, purpose, step), self.first, count, size)
        else:
            z = _normal_blocks(self.seed, purpose, step, self.first, count, size, device)
        return z.reshape(tuple(shape)).to(dtype)

    def uniform(self, purpose: str, step: int, count: int) -> Tensor:
        """Uniform numbers in [0, 1) of shape (B,), float64, on the CPU."""
        words = _raw(_key(self.seed, purpose, step), self.first, count)
        return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def permutation(seed: int, purpose: str, step: int, n: int) -> Tensor:
    """A permutation of 0 ... n - 1, int64, as a function of (seed, purpose, step)."""
    generator = np.random.Generator(np.random.Philox(key=_key(seed, purpose, step)))
    return torch.from_numpy(generator.permutation(n))


def derived_seed(seed: int, purpose: str, step: int) -> int:
    """A 63-bit seed for code that insists on a generator of its own, such as dropout."""
    return int(_key(seed, purpose, step)[0] >> np.uint64(1))
