"""The result of one check, and checks of an SDE by itself: what must hold whatever the data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scoresde.sde import SDE

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was looked at.
        verdict: ok, warning (it works, but could be better) or wrong.
        message: what was found, in words.
        remedy: what to change; empty if the verdict is ok.
        value: the quantity behind the verdict, if there is one.
    """

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""
    value: float | None = None


_TIMES = 400  # at which the identities are checked
_BY_TORCH = "write alpha and sigma with torch operations on t, without detaching it"


def visited(sde: SDE) -> Tensor:
    """Times from t_train to T, even in t and in its logarithm; where T has no finite lam, to just before it."""
    end = sde.T - 1e-3 * (sde.T - sde.t_start) * sde.ends_in_noise
    u = torch.linspace(0, 1, _TIMES // 2, dtype=torch.float64)
    even, early = sde.t_train + (end - sde.t_train) * u, sde.t_train * (end / sde.t_train) ** u
    times = torch.cat((even, early)).clamp(sde.t_train, end).sort().values
    apart = torch.cat((torch.tensor([True]), times.diff() > 1e-9 * times[1:]))
    return times[apart]


def finite(sde: SDE, times: Tensor) -> Finding:
    """alpha and sigma are finite and positive at all times."""
    name = "finite path"
    alpha, sigma = sde.alpha(times), sde.sigma(times)
    for symbol, values in (("alpha", alpha), ("sigma", sigma)):
        bad = ~(torch.isfinite(values) & (values > 0))
        if bad.any():
            t, value = float(times[bad][-1]), float(values[bad][-1])
            message = f"{symbol} is {value:.4g} at t = {t:.6g}; it must be finite and > 0 from t_train to T"
            remedy = f"end at a smaller T than {sde.T:g}" if t == sde.T else f"fix {symbol}, or the times of the SDE"
            return Finding(name, "wrong", message, remedy)
    ends = f"alpha falls from {alpha[0]:.4g} to {alpha[-1]:.4g}"
    if bool((alpha[0] - alpha[-1]).abs() < 1e-12):
        ends = f"alpha stays {alpha[0]:.4g}"
    message = f"{ends}, sigma goes from {sigma[0]:.4g} to {sigma[-1]:.4g}, t from {times[0]:g} to {times[-1]:g}"
    return Finding(name, "ok", message)


def falls(sde: SDE, times: Tensor) -> Finding:
    """lam falls strictly."""
    name, lam = "lam falls", sde.lam(times)
    rises = lam.diff() >= 0
    if rises.any():
        t, s = float(times[:-1][rises][0]), float(times[1:][rises][-1])
        message = f"lam = log(alpha / sigma) does not fall everywhere between t = {t:.4g} and {s:.4g}"
        return Finding(name, "wrong", message, "let the noise grow relative to the signal at all times")
    return Finding(name, "ok", f"log(alpha / sigma) falls from {lam[0]:.3f} to {lam[-1]:.3f} without a step back")


def _slope(values: Tensor, h: Tensor) -> Tensor:
    """Derivative of order four from values (5, N) at -2h, -h, 0, h, 2h."""
    return (values[0] - values[4] + 8 * (values[3] - values[1])) / (12 * h)


def _around(sde: SDE, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Times within the path, five points around each, and their distance: small against the distance to both ends."""
    t = times[1:-1]
    h = 2e-3 * torch.minimum(t, sde.T - t)
    return t, t + torch.arange(-2.0, 3.0, dtype=torch.float64)[:, None] * h, h


def _worst(found: Tensor, expected: Tensor, scale: Tensor) -> tuple[float, int]:
    error = ((found - expected) / scale).abs()
    error = torch.where(torch.isfinite(error), error, torch.inf)
    worst = int(error.argmax())
    return float(error[worst]), worst


def _agreement(check: str, error: float, most: float, wrong: str, remedy: str, right: str) -> Finding:
    """A finding that is wrong if the error of an identity exceeds `most`."""
    if error > most:
        return Finding(check, "wrong", wrong, remedy, error)
    return Finding(check, "ok", f"{right} to {error:.0e}", value=error)


def drift(sde: SDE, times: Tensor) -> Finding:
    """f is the slope of log alpha."""
    t, points, h = _around(sde, times)
    slope = _slope(torch.log(sde.alpha(points)), h)
    error, i = _worst(sde.f(t), slope, slope.abs() + 1e-3 / t)
    wrong = f"f is {float(sde.f(t[i])):.6g} at t = {float(t[i]):.4g}, but alpha'/alpha is {float(slope[i]):.6g}"
    return _agreement("drift", error, 1e-4, wrong, _BY_TORCH, "f is alpha'/alpha, by finite differences")


def diffusion(sde: SDE, times: Tensor) -> Finding:
    """g^2 is that of the path, and not negative."""
    name, g2 = "diffusion", sde.g2(times)
    if (negative := g2 < 0).any():
        message = f"g^2 is {float(g2[negative][0]):.4g} at t = {float(times[negative][0]):.4g}; no noise has that"
        return Finding(name, "wrong", message, "let the noise grow relative to the signal at all times")
    t, points, h = _around(sde, times)
    # with r = sigma / alpha, g^2 is alpha^2 d(r^2)/dt, that is -2 sigma^2 lam'
    expected = -2 * sde.sigma(t) ** 2 * _slope(sde.lam(points), h)
    error, i = _worst(sde.g2(t), expected, expected.abs())
    wrong = f"g^2 is {float(sde.g2(t[i])):.6g} at t = {float(t[i]):.4g}, but the path needs {float(expected[i]):.6g}"
    right = "g^2 is 2 sigma sigma' - 2 f sigma^2 and >= 0, by finite differences"
    return _agreement(name, error, 1e-4, wrong, _BY_TORCH, right)


def inverse(sde: SDE, times: Tensor) -> Finding:
    """t_of_lam inverts lam."""
    error, i = _worst(sde.t_of_lam(sde.lam(times)), times, times)
    found = float(sde.t_of_lam(sde.lam(times[i])))
    wrong = f"t_of_lam(lam(t)) is {found:.6g} at t = {float(times[i]):.6g}, off by {100 * error:.2g} %"
    remedy = "fix t_of_lam, or leave it to the base class"
    return _agreement("t_of_lam", error, 1e-6, wrong, remedy, "t_of_lam is the inverse of lam,")
