"""The learning rate as a function of the step, so that a resumed training needs no scheduler state."""

import math
from typing import Literal

Schedule = Literal["cosine", "constant"]


def factor(step: int, steps: int, warmup: int, schedule: Schedule) -> float:
    """The factor of the base learning rate in step 0, 1, ..., steps - 1.

        cosine      min(1, (step + 1) / warmup) (1 + cos(pi step / steps)) / 2
        constant    min(1, (step + 1) / warmup)

    The cosine is that of Loshchilov and Hutter 2017 (arXiv 1608.03983), eq. 5, without restarts.
    """
    ramp = min(1.0, (step + 1) / max(warmup, 1))
    return ramp * (0.5 * (1 + math.cos(math.pi * step / steps)) if schedule == "cosine" else 1.0)
