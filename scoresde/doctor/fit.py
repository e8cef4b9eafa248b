"""Checks of an SDE against data: what is left of the noise where sampling ends, and of the data where it begins."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoresde.doctor.path import Finding, Verdict
from scoresde.errors import refuse
from scoresde.sde import SDE

_MOST_ITEMS = 2000  # of data, where all pairs of items or a large covariance would be needed
_FLOAT32 = 2.0**-24  # half the spacing of float32 at 1


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of data, and how far it reaches.

    Attributes:
        mean: (D,) float64.
        variances: (D,) eigenvalues of the covariance, float64.
        diameter: the largest distance between two of at most 2,000 evenly spaced items.
    """

    mean: Tensor
    variances: Tensor
    diameter: float

    @property
    def std(self) -> float:
        """Standard deviation over all values, about the mean of each dimension."""
        return float(self.variances.mean().sqrt())


def measure(items: Tensor) -> Moments:
    """Moments of items (N, *event); of more than 2,000 dimensions, from at most 2,000 evenly spaced items.

    Raises:
        InputError: the items are not finite, or all the same.
    """
    x = items.detach().to("cpu").flatten(1)
    refuse(not torch.isfinite(x).all(), "data: there are NaN or infinite values; give finite items")
    refuse(len(x) < 2 or bool((x == x[:1]).all()), "data: the items are all the same; give at least two that differ")
    some = x[:: -(-len(x) // _MOST_ITEMS)].to(torch.float64)
    x = x.to(torch.float64) if x.shape[1] <= _MOST_ITEMS else some
    mean = x.mean(0)
    centred, (n, d) = x - mean, x.shape
    # of a wide matrix the product with fewer entries has the same eigenvalues, and all others are zero
    product = (centred.T @ centred if d <= n else centred @ centred.T) / n
    variances = torch.zeros(d, dtype=torch.float64)
    variances[: len(product)] = torch.linalg.eigvalsh(product).clamp(min=0)
    return Moments(mean, variances, float(torch.cdist(some, some).max()))


def prior_divergence(sde: SDE, moments: Moments) -> float:
    """KL(p_T || prior) in nats, of the Gaussian with the moments of x_T = alpha x_0 + sigma eps.

        KL = 1/2 sum_i (r_i - log(1 + r_i)) + alpha^2 |mean|^2 / (2 p^2),   1 + r_i = (alpha^2 c_i + sigma^2) / p^2

    with p = prior_std and c_i the eigenvalues of the covariance of the data. p_T itself differs from that Gaussian in
    its third and higher cumulants only, which are of third order in alpha / sigma.
    """
    level, p2 = sde.at(sde.t_start), sde.prior_std**2
    r = (level.alpha**2 * moments.variances + (level.sigma**2 - p2)) / p2
    shift = level.alpha**2 * moments.mean.square().sum() / p2
    return float(0.5 * ((r - torch.log1p(r)).sum() + shift))


def _graded(check: str, value: float, bounds: tuple[float, float], message: str, remedy: str) -> Finding:
    """A finding that is ok up to the first bound of a value, and a warning up to the second."""
    verdict: Verdict = "ok" if value <= bounds[0] else "warning" if value <= bounds[1] else "wrong"
    return Finding(check, verdict, message, "" if verdict == "ok" else remedy, value)


def ends(sde: SDE, moments: Moments | None) -> Iterator[Finding]:
    """All checks against the moments of the data; without them, against unit variance in one dimension."""
    whose = "the data" if moments else "data of unit variance"
    one = torch.ones(1, dtype=torch.float64)
    assumed = moments or Moments(0 * one, one, math.nan)
    yield _last_step(sde, assumed.std, whose)
    yield _first_training_time(sde, assumed.std, whose)
    yield _signal(sde, assumed.std, whose)
    yield _prior(sde, assumed, whose)
    if moments and sde.at(sde.t_start).alpha > 0.99 * sde.at(sde.t_train).alpha:  # an exploding path
        yield _reach(sde, moments)


def _last_step(sde: SDE, std: float, whose: str) -> Finding:
    level = sde.at(sde.t_min)
    left = level.sigma / (level.alpha * std)
    message = f"the last step, from t_min = {sde.t_min:g}, removes noise of {100 * left:.2g} % of the spread of {whose}"
    remedy = "lower t_min (or sigma_min), so that less detail is lost in one step"
    return _graded("t_min", left, (0.05, 0.3), message, remedy)


def _first_training_time(sde: SDE, std: float, whose: str) -> Finding:
    level = sde.at(sde.t_train)
    ratio = level.sigma / (level.alpha * std)
    message = f"at t_train = {sde.t_train:g} the noise is {100 * ratio:.2g} % of the spread of {whose}"
    if ratio < 8 * _FLOAT32:
        return Finding("t_train", "warning", f"{message}, less than float32 can hold", "raise t_train", ratio)
    return Finding("t_train", "ok", message, value=ratio)


def _signal(sde: SDE, std: float, whose: str) -> Finding:
    start = sde.t_start
    level, where = sde.at(start), f"T = {start:g}"
    if start < sde.T:
        where = f"t = {start:.6g}, where samplers start since no signal is left at T = {sde.T:g},"
    ratio = level.alpha * std / level.sigma
    message = (
        f"at {where} alpha is {level.alpha:.3g} and sigma {level.sigma:.4g}: the signal-to-noise ratio of "
        f"{whose} is {ratio**2:.2g} in power"
    )
    if ratio < 1e-4 and start == sde.T:  # far beyond what the prior needs
        remedy = "end at a smaller T: steps near it have no effect, and f and g may diverge there"
        return Finding("signal at T", "warning", message, remedy, ratio**2)
    return _graded("signal at T", ratio**2, (0.3**2, 0.5**2), message, _more_noise(sde))


def _more_noise(sde: SDE) -> str:
    names = [name for name in ("sigma_max", "beta_max") if hasattr(sde, name)]
    return f"raise {names[0]}" if names else "let alpha / sigma decrease further: a later T, or a faster path"


def _prior(sde: SDE, moments: Moments, whose: str) -> Finding:
    divergence, d = prior_divergence(sde, moments), len(moments.mean)
    message = (
        f"KL(p_T || N(0, {sde.prior_std:.4g}^2 I)) is {divergence:.2g} nats, {divergence / d:.2g} per dimension, "
        f"with a Gaussian of the same mean and covariance in place of {whose}"
    )
    # the total bounds how well samples can be distinguished from data; the share is the error per dimension
    factor = max(1.0, 20 / d)
    return _graded("prior", divergence, (0.2 / factor, 2.0 / factor), message, _more_noise(sde))


def _reach(sde: SDE, moments: Moments) -> Finding:
    level = sde.at(sde.t_start)
    largest, diameter = level.sigma / level.alpha, moments.diameter
    ratio = largest / diameter
    message = f"the largest noise, {largest:.4g}, is {ratio:.2g} times the largest distance of the data, {diameter:.4g}"
    if ratio > 50:
        remedy = "lower sigma_max to about that distance: above it, steps are wasted where nothing is decided"
        return Finding("sigma_max", "warning", message, remedy, ratio)
    remedy = "raise sigma_max to about that distance, so that every item can be reached from every other"
    return replace(_graded("sigma_max", -ratio, (-0.5, -0.2), message, remedy), value=ratio)
