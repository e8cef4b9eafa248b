"""Preconditionings: what the output of a network means, as four coefficients in float64.

    x0_hat = c_skip x + c_out F(c_in x, c_noise)

With alpha, sigma the level and s = sigma_data the standard deviation of the data, D = sigma^2 + alpha^2 s^2:

    name      F stands for               c_skip                     c_out
    eps       the noise                  1/alpha                    -sigma/alpha
    x0        the data                   0                          1
    v         alpha eps - sigma x0       alpha/(alpha^2+sigma^2)    -sigma/(alpha^2+sigma^2)
    score     grad log p_t(x)            1/alpha                    sigma^2/alpha
    edm       unit-variance mixture      alpha s^2/D                sigma s/sqrt(D)
    velocity  alpha' x0 + sigma' eps     -sigma'/W                  sigma/W,  W = alpha' sigma - alpha sigma'

c_in = 1/sqrt(D) gives every network inputs of unit variance, and c_noise = log(sigma/alpha)/4 depends on the
signal-to-noise ratio alone, so that with eps, x0 and edm a network does not depend on its SDE; v, velocity and the
score also depend on the scale of x. `velocity` is dx/dt of the path, what flow matching learns: eps - x0 on the
rectified path. For alpha = 1, `edm` is table 1 of Karras et al. 2022 (arXiv 2206.00364); `v` is Salimans and Ho 2022
(arXiv 2202.00512).
"""

from typing import Literal, NamedTuple

from scoresde._shapes import Coefficient

Precond = Literal["eps", "x0", "v", "score", "edm", "velocity"]


class Preconditioning(NamedTuple):
    """The four coefficients; floats, or tensors of shape (B,)."""

    c_in: Coefficient
    c_skip: Coefficient
    c_out: Coefficient
    c_noise: Coefficient


def coefficients(
    kind: Precond,
    alpha: Coefficient,
    sigma: Coefficient,
    lam: Coefficient,
    sigma_data: float = 1.0,
    slopes: tuple[Coefficient, Coefficient] | None = None,
) -> Preconditioning:
    """The coefficients of `kind` at a level (see the table above).

    Args:
        kind: the quantity F.
        alpha: of the level; a float or (B,).
        sigma: of the level; a float or (B,).
        lam: of the level; a float or (B,).
        sigma_data: standard deviation of the data.
        slopes: (alpha', sigma'), which `velocity` needs.
    """
    d = sigma**2 + (alpha * sigma_data) ** 2
    unit = alpha**2 + sigma**2
    match kind:
        case "eps":
            c_skip, c_out = 1 / alpha, -sigma / alpha
        case "x0":
            c_skip, c_out = 0 * alpha, 1 + 0 * alpha
        case "v":
            c_skip, c_out = alpha / unit, -sigma / unit
        case "score":
            c_skip, c_out = 1 / alpha, sigma**2 / alpha
        case "edm":
            c_skip, c_out = alpha * sigma_data**2 / d, sigma * sigma_data / d**0.5
        case "velocity":
            assert slopes is not None
            dalpha, dsigma = slopes
            w = dalpha * sigma - alpha * dsigma
            c_skip, c_out = -dsigma / w, sigma / w
    return Preconditioning(d**-0.5, c_skip, c_out, -lam / 4)
