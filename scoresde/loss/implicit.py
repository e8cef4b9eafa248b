"""Implicit score matching: the score of data without noise, from derivatives of the network."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Count
from scoresde.errors import refuse
from scoresde.loss.base import Batch, Loss, LossTerms
from scoresde.model import ScoreModel


class PlainScoreMatching(Loss[ScoreModel]):
    """A loss whose minimiser is the score of the data themselves, on a path of one level."""

    differentiates = True

    def check(self, model: ScoreModel) -> None:
        sde, name = model.sde, type(self).__name__
        asked = f"{name} has no noise levels: it learns the score of the data on a path of one level, use sde=one_level"
        refuse(bool(sde.lam(sde.t_min) != sde.lam(sde.T)), f"sde: {type(sde).__name__} is not allowed; {asked}")
        wanted = f"the output of the network is the score itself in {name}, use model.precond=score"
        refuse(model.precond != "score", f"model.precond: {model.precond!r} is not allowed; {wanted}")

    def __call__(self, model: ScoreModel, batch: Batch) -> LossTerms:
        self.check(model)
        x = (batch.x0 * model.sde.at(model.sde.T).alpha).detach().requires_grad_()
        score = model(x, model.sde.T, *(() if batch.cond is None else (batch.cond,))).score
        return LossTerms(self.value(x, score, batch) / flat(x).shape[1])

    @abstractmethod
    def value(self, x: Tensor, score: Tensor, batch: Batch) -> Tensor:
        """The loss (B,) of the score (B, *event) at x, as a sum over dimensions."""


class ImplicitScoreMatching(PlainScoreMatching):
    """Implicit score matching, E[ tr(grad s(x)) + |s(x)|^2 / 2 ], as a mean over dimensions.

    By partial integration it is E[ |s - grad log p|^2 ] / 2 up to a constant, for any density that is smooth and falls
    to zero; for a Gaussian N(m, C) the least value is -tr(C^-1) / (2 D). The trace takes one backward pass for each of
    the D dimensions: for points, not for images, for which there is `SlicedScoreMatching`. Data that lie on fewer
    dimensions, or on a lattice, have no such density, and the loss falls without bound.

    Raises:
        InputError: when called, a path with several levels, or a network whose output is not the score.

    Hyvarinen 2005 (JMLR 6, 695), theorem 1.
    """

    def value(self, x: Tensor, score: Tensor, batch: Batch) -> Tensor:
        columns = flat(score)
        rows = (torch.autograd.grad(one.sum(), x, create_graph=True)[0] for one in columns.unbind(1))
        trace = torch.stack([flat(row)[:, k] for k, row in enumerate(rows)], 1).sum(1)
        return trace + columns.square().sum(1) / 2


@dataclass(eq=False)
class SlicedScoreMatching(PlainScoreMatching):
    """Sliced score matching, E[ v^T grad s(x) v + (v^T s(x))^2 / 2 ] for v ~ N(0, I), as a mean over dimensions.

    Its expectation over the directions v is that of `ImplicitScoreMatching`, for one backward pass a direction.

    Args:
        directions: of each sample, over which the loss is averaged.
        variance_reduced: |s|^2 in place of (v^T s)^2, whose expectation over v it is.

    Raises:
        InputError: when called, a path with several levels, or a network whose output is not the score.

    Song et al. 2019 (arXiv 1905.07088), eq. 7, and eq. 8 with reduced variance.
    """

    directions: Count = 1
    variance_reduced: bool = True

    def value(self, x: Tensor, score: Tensor, batch: Batch) -> Tensor:
        s, total = flat(score), torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for k in range(self.directions):
            v = flat(batch.noise.normal(f"direction {k}", batch.step, x.shape, x.device, x.dtype))
            along = (s * v).sum(1)
            (gradient,) = torch.autograd.grad(along.sum(), x, create_graph=True)
            total = total + (flat(gradient) * v).sum(1) + (0 if self.variance_reduced else along.square() / 2)
        return total / self.directions + (s.square().sum(1) / 2 if self.variance_reduced else 0)
