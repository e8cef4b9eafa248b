"""The precision of the network in training. Weights, averages, optimizer state and loss stay in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bf16", "fp16"]

_AMPERE = 8  # the first CUDA generation with fast bfloat16


def half_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The half precision type on a device; None for float32.

    `auto` is bf16 on CUDA devices of compute capability 8 or higher, where it is fast, and float32 elsewhere.
    """
    if precision == "auto":
        good = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= _AMPERE
        return torch.bfloat16 if good else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": None}[precision]


def gradient_scaler(dtype: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss so that small gradients of float16 do not vanish (Micikevicius et al. 2018, arXiv 1710.03740,
    section 3.2). Disabled in other types: bfloat16 has the range of float32."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


@contextmanager
def tf32_allowed(device: torch.device) -> Iterator[None]:
    """A context in which float32 matrix products run in TF32 on CUDA (10 bits of mantissa), as convolutions do."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
