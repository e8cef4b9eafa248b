"""Tableaux: the numbers of the one-step rules."""

from typing import Generic, NamedTuple, TypeVar

Polynomial = tuple[float, ...]  # coefficients of 1, u, u^2


W = TypeVar("W")


class Tableau(NamedTuple, Generic[W]):
    """A one-step rule: stage i lies at c_i and takes a_ij of P_j, the result takes b_j.

    The weights of an explicit Runge-Kutta rule are numbers. Those of an exponential rule in lam are polynomials p_ij(u)
    in u = (lam - lam_t) / h: up to stage i, P(u) is sum_j p_ij(u) P_j, integrated exactly. In the usual notation
    u^l / l! makes c_i^(l+1) phi_(l+1).

    Attributes:
        c, a: of the stages after the first, which lies at 0.
        b: row of the result.
        order: of the result.
        error: b minus the weights of the embedded rule, for rules that have one; if there is one weight more than
            stages, it is that of the evaluation at the end.
    """

    c: tuple[float, ...]
    a: tuple[tuple[W, ...], ...]
    b: tuple[W, ...]
    order: int
    error: tuple[W, ...] = ()


# Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, tables II.1.1, II.1.2, II.5.2; Bogacki and
# Shampine, A 3(2) pair of Runge-Kutta formulas, Appl. Math. Lett. 1989; Ralston, Math. Comp. 1962.
EXPLICIT: dict[str, Tableau[float]] = {
    "euler": Tableau((), (), (1,), 1),
    "midpoint": Tableau((1 / 2,), ((1 / 2,),), (0, 1), 2),
    "heun": Tableau((1,), ((1,),), (1 / 2, 1 / 2), 2),
    "ralston": Tableau((2 / 3,), ((2 / 3,),), (1 / 4, 3 / 4), 2),
    "bosh3": Tableau(
        (1 / 2, 3 / 4),
        ((1 / 2,), (0, 3 / 4)),
        (2 / 9, 1 / 3, 4 / 9),
        3,
        error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
    ),
    "rk4": Tableau((1 / 2, 1 / 2, 1), ((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4),
    "dopri5": Tableau(
        (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1),
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        5,
        error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


_HOLD: tuple[Polynomial, ...] = ((1,),)
EXPONENTIAL: dict[str, Tableau[Polynomial]] = {
    # DPM-Solver-2 and ++(2S) with r = 1/2: the value in the middle (arXiv 2206.00927, algorithm 1)
    "midpoint": Tableau((1 / 2,), (_HOLD,), ((0,), (1,)), 2),
    # the line through both values (Hochbruck and Ostermann, Acta Numerica 2010, eq. 2.40 with c_2 = 1)
    "heun": Tableau((1,), (_HOLD,), ((1, -1), (0, 1)), 2),
    # DPM-Solver-3 and ++(3S) with r = 1/3, 2/3 (arXiv 2206.00927, algorithm 2); embedded is the line through the first
    # two values, of order 2
    "thirds": Tableau(
        (1 / 3, 2 / 3),
        (_HOLD, ((1, -3), (0, 3))),
        ((1, -3 / 2), (0,), (0, 3 / 2)),
        3,
        error=((0, 3 / 2), (0, -3), (0, 3 / 2)),
    ),
    # Krogstad's ETD4RK (J. Comput. Phys. 2005; Hochbruck and Ostermann, eq. 2.42)
    "krogstad": Tableau(
        (1 / 2, 1 / 2, 1),
        (_HOLD, ((1, -4), (0, 4)), ((1, -2), (0,), (0, 2))),
        ((1, -3, 2), (0, 2, -2), (0, 2, -2), (0, -1, 2)),
        4,
    ),
}
