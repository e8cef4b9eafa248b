"""XTrace: an estimate of a trace in which each direction tests what the others leave over."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.constraints import Count
from scoresde.divergence.base import Divergence, ExactTrace, Normal
from scoresde.divergence.products import Field, with_products
from scoresde.errors import require

_TINY = 1e-9  # relative size of the noise that keeps a range at full rank


@dataclass(frozen=True, repr=False)
class XTrace(Divergence):
    """XTrace with resphering: the trace on the range of J W, and an estimate of the rest, for W of m directions.

        tr_i = tr(P_i J) + r_i^T J r_i,   P_i on the range of J W without w_i,   r_i ~ (I - P_i) w_i

    with |r_i|^2 = D - m + 1: unbiased. The range is that of J - c I, where one more direction gives c, so that a
    multiple of the identity does not hide what is left. Good where few eigenvalues stand out. Where 2 m + 1 products
    are as many as an event has values, the trace is exact.

    Args:
        probes: m, at least 2; 2 m + 1 products in each group at each evaluation.
        fresh: other directions at every evaluation.
        groups: independent estimates, whose spread is the error. The spread of the tr_i, which serves a single group,
            is too small, by a tenth to a third.

    Epperly, Tropp and Webber 2024 (arXiv 2301.07825), algorithm 1 and section 2.3.
    """

    probes: Count = 4
    fresh: bool = False
    groups: Count = 1

    def __post_init__(self) -> None:
        require(self.probes > 1, "divergence.probes", self.probes, "XTrace needs at least 2")

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.probes if self.groups == 1 else self.groups

    def of(self, field: Field, x: Tensor, normal: Normal, evaluation: int) -> tuple[Tensor, Tensor]:
        m, size = self.probes, x[0].numel()
        if 2 * m + 1 >= size:
            value, trace = ExactTrace().of(field, x, normal, evaluation)
            return value, trace.expand(-1, self.columns)
        drawn = normal(self.groups * (2 * m + 1), evaluation if self.fresh else 0)
        drawn, noise = drawn.reshape(self.groups, 2 * m + 1, *x.shape).tensor_split((m + 1,), dim=1)
        value, product = with_products(field, x)
        w, jw = _columns(drawn), _columns(product(drawn.flatten(0, 1)).reshape(drawn.shape))
        c = (w[..., m:] * jw[..., m:]).sum(1, keepdim=True) / w[..., m:].square().sum(1, keepdim=True)
        w, y = w[..., :m], (jw - c * w)[..., :m]
        # J = c I would leave no range
        q, r = torch.linalg.qr(y + _TINY * (y.norm(dim=1, keepdim=True) + _TINY * c.abs() + 1e-30) * _columns(noise))
        back = q.mT.reshape(self.groups, len(x), m, *x.shape[1:]).transpose(1, 2).to(x)
        found = product(back.flatten(0, 1)).reshape(back.shape)
        traces = c[:, 0] * size + _leave_one_out(w, y, q, _columns(found) - c * _columns(back), r)
        return value, traces if self.groups == 1 else traces.mean(1).reshape(self.groups, -1).T

    def products(self, size: int) -> float:
        m = self.probes
        return self.groups * (2 * m + 1) if 2 * m + 1 < size else size


def _columns(v: Tensor) -> Tensor:
    """Directions (groups, k, B, *event) as columns (groups * B, D, k), float64."""
    return v.double().flatten(3).permute(0, 2, 3, 1).flatten(0, 1)


def _leave_one_out(w: Tensor, y: Tensor, q: Tensor, z: Tensor, r: Tensor) -> Tensor:
    """The estimates tr_i (B, m) of tr A, from W, A W and A Q (B, D, m) with A W = Q R.

    The range without w_i is that of Q and orthogonal to Q s_i, where s_i is column i of R^-T.
    """
    s = torch.linalg.solve_triangular(r.mT, torch.eye(r.shape[-1]).to(r).expand_as(r), upper=False)
    s = s / s.norm(dim=1, keepdim=True)
    inner = q.mT @ w
    u = inner - s * (s * inner).sum(1, keepdim=True)
    left, image, h = w - q @ u, y - z @ u, q.mT @ z
    size, m = w.shape[1:]
    rest = (left * image).sum(1) * (size - m + 1) / left.square().sum(1)
    within = h.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) - (s * (h @ s)).sum(1)
    return torch.add(within, rest)
