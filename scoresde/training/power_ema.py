"""Averages whose length is chosen after the training: power functions, their snapshots, and least squares.

Karras et al. 2024 (arXiv 2312.02696), section 3 and appendix C. The weight of step tau in an average of exponent gamma
that was taken at step t is the profile

    p(tau) = (gamma + 1) / t (tau / t)^gamma,   0 < tau <= t,

whose standard deviation, as a share of t, is called its length here (sigma_rel in the paper):

    length = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)),   less than 1 / sqrt(12), that of gamma = 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scoresde.errors import require

SHORTEST, LONGEST = 1e-9, 1 / math.sqrt(12)  # beyond the former a profile is narrower than float64 can say
POWER = "power-"  # with a length, the name of an average in a checkpoint


def exponent(length: float) -> float:
    """The gamma > 0 of a profile of this length, the largest root of its cubic equation.

    Raises:
        InputError: the length is not in (0, 0.288).
    """
    wanted = "give a share of the training in (0, 0.288), such as 0.1"
    require(SHORTEST < length < LONGEST, "length", length, wanted)
    s = length**-2  # (gamma + 2)^2 (gamma + 3) = s (gamma + 1)
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


class Profile(NamedTuple):
    """The weights of past steps in an average: its exponent, and the step at which it was taken."""

    gamma: float
    step: float


def product(a: Profile, b: Profile) -> float:
    """The inner product of two profiles, the integral of p_a p_b over tau (arXiv 2312.02696, appendix C)."""
    last = min(a.step, b.step)
    # powers of ratios, which cannot overflow
    share: float = (last / a.step) ** (a.gamma + 1) * (last / b.step) ** (b.gamma + 1)
    density: float = (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1) / last
    return density * share


def combination(known: Sequence[Profile], wanted: Profile) -> tuple[list[float], float]:
    """The combination of known profiles that is nearest to the wanted one, by least squares.

        minimize |sum_i c_i p_i - p|^2  with  sum_i c_i = 1,  so that a weight that never changed is unchanged

    Args:
        known: profiles of the existing averages.
        wanted: the profile to approximate.

    Returns:
        The factor of each known profile, and the relative distance |sum_i c_i p_i - p| / |p|.
    """
    gram = np.array([[product(a, b) for b in known] for a in known])
    right = np.array([product(a, wanted) for a in known])
    scale = 1 / np.sqrt(np.diag(gram))  # so that rounding affects early and late snapshots alike
    ones = np.ones(len(known)) * scale
    system = np.block([[gram * np.outer(scale, scale), ones[:, None]], [ones[None], np.zeros((1, 1))]])  # of Lagrange
    factors = scale * np.linalg.lstsq(system, np.append(scale * right, 1.0), rcond=None)[0][:-1]
    norm = product(wanted, wanted)
    left = norm - 2 * factors @ right + factors @ gram @ factors
    return factors.tolist(), math.sqrt(max(left, 0.0) / norm)
