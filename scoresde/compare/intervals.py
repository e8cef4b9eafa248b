"""Intervals from independent repetitions: Student's t, for a mean and for a difference of pairs.

A bootstrap of the points of one sample would be easier and wrong here: a distance between clouds is biased by their
size, so a resampled one is biased twice and its interval misses the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """`mean` plus and minus `half`; `half` is NaN where one repetition allows none."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def student(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent repetitions with its interval of confidence.

        mean ± t_{k-1} s / sqrt(k)

    Args:
        values: one figure a repetition.
        level: with this probability the interval holds the expectation, if the figures are normal.
    """
    from scipy.special import stdtrit

    numbers = np.asarray(values, dtype=np.float64)
    k = len(numbers)
    mean = float(numbers.mean()) if k else math.nan
    if k < 2:
        return Interval(mean, math.nan)
    quantile = float(stdtrit(k - 1, (1 + level) / 2))
    return Interval(mean, quantile * float(numbers.std(ddof=1)) / math.sqrt(k))


def paired(values: Sequence[float], rivals: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of values - rivals, repetition by repetition, with its interval: same noise, same real data."""
    return student([a - b for a, b in zip(values, rivals, strict=True)], level)
