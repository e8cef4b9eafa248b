"""Confidence intervals from independent repetitions: Student's t, for a mean and for a difference of pairs.

A bootstrap of the points of one sample would be easier and wrong here: a distance between clouds is biased by their
size, so a resampled one is biased twice and its interval misses the truth.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TWO_SIDED = 1.959963984540054  # standard errors in half of a 95 % interval, of normal errors
_LEAST = 1e-5  # half over mean, below which the half is rounding


class Interval(NamedTuple):
    """`mean` plus and minus `half`; `half` is NaN where one repetition allows none.

    As text `0.0341 ± 0.0021`: the half with two digits, the mean to the same place, both with the same power of ten
    below 1e-4 and from 1e5 on; empty for NaN.
    """

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        mean, half = self
        if math.isnan(mean):
            return ""
        if not (half > _LEAST * abs(mean) and math.isfinite(half)):
            return f"{mean:.0f}" if 1e3 <= abs(mean) < 1e5 else f"{mean:.3g}"
        scale = max(abs(mean), half)
        shift = 0 if 1e-4 <= scale < 1e5 else math.floor(math.log10(scale))
        places = max(0, 1 - math.floor(math.log10(half / 10.0**shift)))
        value = round(mean / 10.0**shift, places) + 0.0  # which turns -0 into 0
        end = f"e{shift}" if shift else ""
        return f"{value:.{places}f}{end} ± {half / 10.0**shift:.{places}f}{end}"


def student(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent repetitions with its confidence interval.

        mean ± t_{k-1} s / sqrt(k)

    Args:
        values: one a repetition.
        level: with this probability the interval contains the expectation, if the values are normal.
    """
    numbers = np.asarray(values, dtype=np.float64)
    k = len(numbers)
    mean = float(numbers.mean()) if k else math.nan
    if k < 2:
        return Interval(mean, math.nan)
    from scipy.special import stdtrit

    quantile = float(stdtrit(k - 1, (1 + level) / 2))
    return Interval(mean, quantile * float(numbers.std(ddof=1)) / math.sqrt(k))


def paired(values: Sequence[float], rivals: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of values - rivals, repetition by repetition, with its interval: same noise, same real data."""
    return student([a - b for a, b in zip(values, rivals, strict=True)], level)
