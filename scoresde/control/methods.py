"""How guidance combines two predictions: the options of `guidance_method`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from scoresde._shapes import expand, flat
from scoresde.constraints import Fraction, Positive
from scoresde.described import Rebuildable
from scoresde.errors import refuse
from scoresde.model import Model, S
from scoresde.prediction import Prediction


class GuidanceMethod(Rebuildable, ABC):
    """A rule for the prediction D of guidance, from that of a model D_1 and of a weaker one D_0.

    Attributes:
        of_score: whether it is a change of the score alone, which an observation may change further.
    """

    of_score: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, strong: Prediction, weak: Prediction, scale: float) -> Prediction:
        """D from D_1 and D_0 at the same x and level."""

    def check(self, model: Model, interval: object) -> None:
        """Refuse a model for which the rule is not defined."""

    def suits(self, sampler: S) -> S:
        """The sampler that the rule needs, from the one that was asked for: the same.

        Raises:
            InputError: the rule is not defined for its solver.
        """
        return sampler


class ClassifierFree(GuidanceMethod):
    """The straight line through both predictions, D = D_0 + scale (D_1 - D_0), of x0, eps, score and velocity alike.

    Its score is that of p_t(x) p_t(c | x)^scale, but a sampler that follows it from level to level samples neither
    p(x) p(c | x)^scale nor another simple distribution, see docs/guidance.md.

    J. Ho and T. Salimans, arXiv 2207.12598, whose w is scale - 1.
    """

    def __call__(self, strong: Prediction, weak: Prediction, scale: float) -> Prediction:
        return weak.toward(strong, scale)


class PlusPlus(GuidanceMethod):
    """CFG++: the guided prediction is noised again by the noise of the weaker model.

        x_s = alpha_s D + sigma_s eps_0,   D = D_0 + scale (D_1 - D_0)

    The prediction is one at x' = alpha D + sigma eps_0 in place of x, so its score and its eps are those of the weaker
    model. A step that takes x from its prediction alone is then the one above: `ddim`, `ancestral`, `euler_maruyama`,
    `reverse_diffusion`, and `dpmpp_2m` and its kin without a corrector, whose later terms are those of D. Others are
    refused. A step adds scale alpha_s (D_1 - D_0) however short it is, as guidance by scale / (1 - e^{-h}) does over a
    length h in log(alpha / sigma), so that more steps guide more: the paper takes a scale from 0 to 1. With 1 x0 is
    that of the model.

    H. Chung et al., arXiv 2406.08070.
    """

    of_score = False

    def __call__(self, strong: Prediction, weak: Prediction, scale: float) -> Prediction:
        return weak.toward(strong, scale).with_noise_of(weak)

    def check(self, model: Model, interval: object) -> None:
        model.needs_gaussian("guidance_method=cfgpp")

    def suits(self, sampler: S) -> S:
        own: Any = sampler
        name = own.solver.called
        wanted = "takes more than one prediction of a step from x; give solver=ddim, ancestral or dpmpp_2m"
        refuse(not own.solver.renoises, f"guidance_method: cfgpp is not defined for {name}, which {wanted}")
        refuse(own.corrector is not None, "guidance_method: cfgpp has no corrector; give corrector=none")
        return sampler


@dataclass(frozen=True, repr=False)
class Projected(GuidanceMethod):
    """Adaptive projected guidance: the part of D_1 - D_0 along D_1, which oversaturates images, is kept in a share.

        d = D_1 - D_0,   d <- d min(1, norm / |d|),   D = D_1 + (scale - 1) (d - (1 - parallel) <d, D_1> D_1 / |D_1|^2)

    with norms and products over all values of a sample. The momentum of the paper is left out: it remembers the calls
    before, so that a sample would depend on the number of steps, and on which evaluations a solver makes.

    Args:
        parallel: eta, the share of the part along D_1 that is kept; 1 keeps all, which is `cfg`.
        norm: r, the largest |D_1 - D_0|, in model units; None for no limit. The paper takes 2.5 for latents of EDM2.

    S. Sadat et al., arXiv 2410.02416.
    """

    parallel: Fraction = 0.0
    norm: Positive | None = None

    def __call__(self, strong: Prediction, weak: Prediction, scale: float) -> Prediction:
        x0 = strong.x0
        apart = x0 - weak.x0
        if self.norm is not None:
            length = flat(apart).norm(dim=1).clamp(min=self.norm)
            apart = apart * expand(self.norm / length, x0)
        return strong.moved((scale - 1) * (apart - (1 - self.parallel) * _along(apart, x0)))

    def check(self, model: Model, interval: object) -> None:
        model.needs_gaussian("guidance_method=apg")


def _along(a: Tensor, b: Tensor) -> Tensor:
    """The part of a (B, *event) along b, sample by sample; zero where b is."""
    share = (flat(a) * flat(b)).sum(1) / flat(b).square().sum(1).clamp(min=1e-30)
    return expand(share, b) * b
