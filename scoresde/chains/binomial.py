"""The binomial chain of Sohl-Dickstein et al. 2015: bits that are redrawn one after the other, and put back."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.special import ndtri, xlogy

from scoresde._shapes import Coefficient, expand, flat
from scoresde.constraints import Checked, at_least
from scoresde.errors import InputError, refuse, require
from scoresde.model import Model, NetworkModel
from scoresde.nets.condition import Cond
from scoresde.precond import Preconditioning
from scoresde.prediction import Level, Prediction
from scoresde.sde import SDE

Predicts = Literal["clean", "flip"]
_LEAST = 1e-30  # a probability below which its logarithm ends
_FIRST = 9e-4  # alpha below which networks see a constant level
_REDRAWN = 0.05  # alpha that may be left at T


def flips(alpha_t: Coefficient, alpha_s: Coefficient) -> tuple[Coefficient, Coefficient]:
    """P(x_s != x_t | x_t, x_0) of a bit, for x_0 = x_t and for the other x_0, between two levels s < t.

        (1 - r)(1 - alpha_s) / (2 (1 + alpha_t))  and  (1 - r)(1 + alpha_s) / (2 (1 - alpha_t)),   r = alpha_t / alpha_s

    Bayes' rule for P(x_t = x_s) = (1 + r) / 2 and P(x_s = x_0) = (1 + alpha_s) / 2.

    Args:
        alpha_t: at the noisier level, below 1.
        alpha_s: at the other one; 1 for clean bits.
    """
    redrawn = (1 - alpha_t / alpha_s) / 2
    return redrawn * (1 - alpha_s) / (1 + alpha_t), redrawn * (1 + alpha_s) / (1 - alpha_t)


class BitPrediction(Prediction):
    """The prediction of a chain of bits, x_0 = (1 - 2 wrong) x_t: the mean of each clean bit.

    Args:
        x: the bits at t, -1 or 1, (B, *event).
        wrong: P(x_0 != x_t | x_t) of each bit, (B, *event).
        sde: the path.
        t: the time, a float or (B,).
        level: see `scoresde.Model.levels`.
    """

    __slots__ = ("wrong",)

    def __init__(self, x: Tensor, wrong: Tensor, sde: SDE, t: float | Tensor, level: Level) -> None:
        super().__init__(x, x * (1 - 2 * wrong), sde, t, 0.0, 1.0, level=level)
        self.wrong = wrong

    def flip(self, agree: Coefficient, differ: Coefficient) -> Tensor:
        """P(x_s != x_t | x_t) for the two `flips` of a step; a sum of positive terms, so that small ones are exact."""
        x = self._x
        return (1 - self.wrong) * expand(agree, x) + self.wrong * expand(differ, x)

    def toward(self, other: Prediction, scale: Coefficient) -> "BitPrediction":
        """The log odds of this prediction + scale (those of the other - these)."""
        assert isinstance(other, BitPrediction)
        a, b = _log_odds(self.wrong), _log_odds(other.wrong)
        level = self._alpha, self._sigma, 0.0
        return BitPrediction(self._x, torch.sigmoid(a + expand(scale, a) * (b - a)), self._sde, self._t, level)


def _log_odds(p: Tensor) -> Tensor:
    return torch.logit(p.clamp(_LEAST, 1 - torch.finfo(p.dtype).eps))


class BitModel(Model):
    """Base class of models of bits that are redrawn at random: x_t is x_0 with probability (1 + alpha) / 2.

    So E[x_t | x_0] = alpha(t) x_0 for bits of -1 and 1, and alpha is the share of bits that were not redrawn up to t;
    the sigma of the SDE is not used. With `sde=rectified` and N equal steps to T, step k redraws 1 / (N/T - k + 1)
    of the bits: for T = 1 the rate of Sohl-Dickstein et al. 2015 (arXiv 1503.03585), section 2.4.1.

    Args:
        sde: of which alpha counts.

    Raises:
        InputError: alpha(T) is above 0.05, so that bits would remain.
    """

    states = "bits"

    def __init__(self, sde: SDE) -> None:
        super().__init__(sde)
        left = float(sde.alpha(_tensor(sde.T)))
        wanted = f"alpha(T) = {left:.3g} leaves too many bits as they are; use sde=rectified, vp or cosine"
        refuse(left > _REDRAWN, f"sde: {type(sde).__name__} is not allowed; {wanted}")

    @property
    def prior_mean(self) -> Tensor:
        """The mean of each bit of the prior, (*event) or (): fair bits."""
        return torch.zeros(())

    def prior(self, z: Tensor) -> Tensor:
        share = (1 + self.prior_mean.to(z)) / 2
        return torch.where(z < ndtri(share), 1.0, -1.0).to(z.dtype)

    def levels(self, t: float | Tensor) -> Level:
        """(alpha, sigma, lam) with x_t = alpha x_0 + a rest of mean 0 and standard deviation sigma."""
        number = not isinstance(t, Tensor) or t.ndim == 0
        alpha = self.sde.alpha(_tensor(t))
        sigma = torch.sqrt((1 - alpha) * (1 + alpha))
        level = alpha, sigma, torch.log(alpha) - torch.log(sigma)
        return (float(level[0]), float(level[1]), float(level[2])) if number else level

    def redrawn(self, x0: Tensor, t: float | Tensor, z: Tensor) -> Tensor:
        """x_t from clean bits x0 (B, *event) and standard normal numbers z of that shape."""
        wrong = expand(_plain((1 - self.sde.alpha(_tensor(t))) / 2), x0)
        return torch.where(z < ndtri(torch.as_tensor(wrong).to(z)), -x0, x0)

    def check_data(self, items: Tensor) -> None:
        other = items[items.abs() != 1]
        remedy = "give data=heartbeat, data=digits data.threshold=8, or an array of booleans"
        found = f"{other[0].item():.4g} in model units" if len(other) else ""
        refuse(len(other) > 0, f"data: {found} is no bit, as this model needs (-1 or 1); {remedy}")


class BinomialChain(Checked, BitModel, NetworkModel):
    """A network that learns to undo the redrawing of bits.

        clean    P(x_0 = 1 | x_t) = sigmoid(net)
        flip     P(x_s != x_t | x_t) = sigmoid(log((1 - r) / (1 + r)) - x_t net)

    `flip` is the bit-flip probability of the reverse step from t to the level before it, s = t - T / N, as the paper
    learns it; with a network of 0 it is that of the forward step. It is linear in P(x_0 != x_t | x_t), so it gives
    this too, and steps between any two levels. Both can be exact for independent bits.

    Args:
        net: called as net(x, c) with bits x of -1 and 1 (B, *event) and c = log((1 - alpha) / alpha) / 4, (B,).
        sde: see `BitModel`.
        predicts: what the output stands for, see above.
        steps: their number N, equally long in time; the bound has a term for each.

    Raises:
        InputError: see `BitModel`; or a chain of one step, in which all bits are independent.
    """

    usual_loss = "binomial"

    def __init__(
        self, net: nn.Module, sde: SDE, predicts: Predicts = "clean", steps: Annotated[int, at_least(2)] = 1000
    ) -> None:
        super().__init__(sde)
        self.net, self.predicts, self.steps = net, predicts, steps
        self.event_shape = getattr(net, "event_shape", None)

    @property
    def meaning(self) -> str:
        what = "clean bits" if self.predicts == "clean" else "flips of a step"
        return f"{what}, {self.steps} steps"

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> BitPrediction:
        level = self.levels(t)
        alpha = _tensor(level[0]).clamp(min=_FIRST)
        c = Preconditioning(1.0, 0.0, 1.0, _plain((torch.log1p(-alpha) - alpha.log()) / 4))
        out = self.raw(x, c, cond)
        if self.predicts == "clean":
            return BitPrediction(x, torch.sigmoid(-x * out), self.sde, t, level)
        before = (_tensor(t) - self.sde.T / self.steps).clamp(min=0)
        alpha_s = self.sde.alpha(before)
        r = level[0] / alpha_s
        agree, differ = (expand(_plain(p), x) for p in flips(level[0], alpha_s))
        flip = torch.sigmoid(expand(_plain(torch.log((1 - r) / (1 + r))), x) - x * out)
        return BitPrediction(x, (flip - agree) / (differ - agree), self.sde, t, level)


def _tensor(t: float | Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64)


def _plain(c: Coefficient) -> Coefficient:
    """A coefficient of one time as a float."""
    return float(c) if isinstance(c, Tensor) and c.ndim == 0 else c


class ExactBits(BitModel):
    """The exact chain of a distribution over some given items: P(x_0 | x_t) by Bayes' rule, in float64.

    Args:
        points: bits of -1 and 1, (N, *event), N >= 1.
        sde: see `BitModel`.
        weights: of the points, (N,), in any unit; equal by default.

    Raises:
        InputError: no points, values that are no bits, or weights that do not fit.
    """

    def __init__(self, points: Tensor, sde: SDE, weights: Tensor | None = None) -> None:
        super().__init__(sde)
        points = torch.as_tensor(points, dtype=torch.float64)
        require(points.ndim >= 2 and len(points) > 0, "points", tuple(points.shape), "give (N, *event), N >= 1")
        self.check_data(points)
        weights = torch.ones(len(points)) if weights is None else torch.as_tensor(weights)
        fine = weights.shape == points.shape[:1] and bool((weights > 0).all())
        require(fine, "weights", weights.tolist(), "give a positive number for each point")
        self.event_shape = tuple(points.shape[1:])
        self.points: Tensor
        self.weights: Tensor
        self.register_buffer("points", points)
        self.register_buffer("weights", weights.to(points) / weights.sum())

    @property
    def prior_mean(self) -> Tensor:
        """That of the bits at T."""
        mean = (self.weights @ flat(self.points)).reshape(self.points.shape[1:])
        return self.sde.alpha(_tensor(self.sde.T)) * mean

    @property
    def entropy(self) -> float:
        """Of the distribution, in nats, if the points differ."""
        return -float(xlogy(self.weights, self.weights).sum())

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> BitPrediction:
        if cond is not None:
            raise InputError("cond: this exact model is unconditional; give no condition")
        level, points, bits = self.levels(t), flat(self.points), flat(x).double()
        alpha = _tensor(level[0]).reshape(-1, 1)
        agreeing = ((1 + bits) / 2) @ ((1 + points) / 2).T + ((1 - bits) / 2) @ ((1 - points) / 2).T
        odds = torch.log1p(alpha) - torch.log1p(-alpha)
        weights = torch.softmax(self.weights.log() + agreeing * odds, dim=1)
        minus, plus = weights @ ((1 - points) / 2), weights @ ((1 + points) / 2)
        wrong = torch.where(bits > 0, minus, plus).reshape(x.shape).to(x.dtype)
        return BitPrediction(x, wrong, self.sde, t, level)


def step_divergence(model: Model, x0: Tensor, x: Tensor, t: float | Tensor, s: float | Tensor, cond: Cond) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats, (B,): the term of a step from t to s in the variational bound.

    At s = 0 it is -log p(x_0 | x_t).

    Args:
        model: of bits.
        x0: clean bits (B, *event).
        x: the bits at t.
        t: one time, or one for each sample (B,).
        s: likewise, the level after the step.
        cond: of the network.
    """
    agree, differ = flips(model.sde.alpha(_tensor(t)), model.sde.alpha(_tensor(s)))
    prediction = model.forward(x, t, cond)
    assert isinstance(prediction, BitPrediction)
    p = prediction.flip(agree, differ).clamp(_LEAST, 1 - torch.finfo(x.dtype).eps / 2)
    q = torch.where(x0 == x, torch.as_tensor(expand(agree, x)).to(x), torch.as_tensor(expand(differ, x)).to(x))
    kept = 1 - q
    return flat(xlogy(q, q) - q * p.log() + xlogy(kept, kept) - kept * torch.log1p(-p)).sum(1)


def prior_divergence(model: BitModel, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) || prior) in nats, (B,)."""
    alpha, mean = model.sde.alpha(_tensor(model.sde.T)).to(x0), model.prior_mean.to(x0)
    both = [((1 + sign * alpha) / 2, (1 + sign * mean * x0) / 2) for sign in (1, -1)]
    return flat(sum((xlogy(q, q / p) for q, p in both), torch.zeros_like(x0))).sum(1)
