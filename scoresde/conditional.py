"""Gaussian mixtures with classes: exact conditional models, exact classifiers, and the targets of guidance."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scoresde._shapes import Coefficient
from scoresde.errors import InputError, require
from scoresde.mixture import GaussianMixture
from scoresde.model import Model
from scoresde.nets.condition import Cond, Condition, named
from scoresde.noise import Noise, derived_seed
from scoresde.prediction import Prediction
from scoresde.sde import SDE

_HIDDEN = 0.1  # share of missing classes that a network would have seen: the exact model knows both
_ROUNDS = 1000  # of proposals, after which a target is too far from the class


class ConditionalMixture(nn.Module):
    """A Gaussian mixture in which each component has a class: p(x, c) = sum over components k of class c of w_k N_k(x).

    Args:
        mixture: p(x).
        classes: of the K components, integers from 0 to C - 1, each there at least once.

    Raises:
        InputError: another number of classes than components, or a class without one.
    """

    def __init__(self, mixture: GaussianMixture, classes: Tensor | Sequence[int]) -> None:
        super().__init__()
        classes = torch.as_tensor(classes)
        known = torch.unique(classes).tolist()
        fine = classes.shape == mixture.weights.shape and known == list(range(len(known)))
        require(fine, "classes", classes.tolist(), "give one for each component, counted from 0 without gaps")
        self.mixture, parts = mixture, []
        covariances = (mixture.axes * mixture.variances[:, None]) @ mixture.axes.mT
        for c in known:
            own = classes == c
            parts.append(GaussianMixture(mixture.weights[own], mixture.means[own], covariances[own]))
        self.parts = nn.ModuleList(parts)
        self.shares = nn.Buffer(torch.stack([mixture.weights[classes == c].sum() for c in known]))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.mixture.event_shape

    def of_class(self, c: int) -> GaussianMixture:
        """p(x | c)."""
        require(0 <= c < len(self.parts), "label", c, f"give a class from 0 to {len(self.parts) - 1}")
        part = self.parts[c]
        assert isinstance(part, GaussianMixture)
        return part

    def log_classes(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log p(c | x_t = x) of all classes, (B, C), float64: the exact classifier of noisy data."""
        joint = [self.of_class(c).log_prob(x, alpha, sigma) for c in range(len(self.parts))]
        return torch.log_softmax(torch.stack(joint, dim=1) + self.shares.log(), dim=1)

    def tilted(self, c: int, scale: float, n: int, seed: int = 0) -> Tensor:
        """n exact draws (n, D) from p(x) p(c | x)^scale, normalised: what guidance by `scale` is meant to sample.

        By rejection: for scale >= 1 of draws from p(x | c), kept with probability p(c | x)^(scale - 1).

        Raises:
            InputError: next to nothing is kept.
        """
        source, power = (self.of_class(c), scale - 1) if scale >= 1 else (self.mixture, scale)
        kept: list[Tensor] = []
        for k in range(_ROUNDS):
            own = derived_seed(seed, "tilted", k)
            x = source.sample(n, own)
            log_u = Noise(own).uniform("kept", 0, n).log().to(x.device)
            kept.append(x[log_u < power * self.log_classes(x)[:, c]])
            if sum(map(len, kept)) >= n:
                return torch.cat(kept)[:n]
        raise InputError(f"scale: {scale} is not allowed; class {c} is too rare under it to be drawn; give less")


class ExactConditional(Model):
    """The exact score of a mixture with classes: that of p(x | c) with the condition `class`, of p(x) without.

    Args:
        data: the mixture.
        sde: the forward diffusion.
    """

    def __init__(self, data: ConditionalMixture, sde: SDE) -> None:
        super().__init__(sde)
        self.data, self.event_shape = data, data.event_shape
        self._condition = {"class": Condition("class", "class", len(data.parts), _HIDDEN, 1)}

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return self._condition

    def under(self, sde: SDE) -> "ExactConditional":
        return ExactConditional(self.data, sde)

    def forward(self, x: Tensor, t: float | Tensor, cond: Cond = None) -> Prediction:
        require(x.shape[1:] == self.event_shape, "x", tuple(x.shape), f"this model takes (B, *{self.event_shape})")
        level, given = self.levels(t), named(self.conditions, cond).get("class")
        if given is None:
            x0 = self.data.mixture.posterior_mean(x, *level[:2])
        else:
            self._condition["class"].check(given, len(x))
            x0 = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
            for c in torch.unique(given).tolist():
                x0 = torch.where((given == c)[:, None], self.data.of_class(c).posterior_mean(x, *level[:2]), x0)
        return Prediction(x, x0.to(x.dtype), self.sde, t, 0.0, 1.0, level=level)
