"""The family of reverse processes that share the marginals of an SDE, as coefficients of x and eps."""

from scoresde.sde import SDE


def reverse_drift(sde: SDE, t: float, eta: float) -> tuple[float, float, float]:
    """Coefficients (a, b, c) of dx = (a x + b eps) dt + c dw, integrated from T down to 0.

        dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw,   score = -eps / sigma

    eta = 1 is the reverse SDE (Anderson 1982; Song et al. 2021, arXiv 2011.13456, eq. 6), eta = 0 the probability-flow
    ODE (eq. 13); every eta >= 0 has the same marginals.
    """
    g2 = float(sde.g2(t))
    return float(sde.f(t)), (1 + eta**2) / 2 * g2 / sde.at(t).sigma, eta * g2**0.5
