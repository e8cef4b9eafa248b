"""The latent space of the probability-flow ODE: items as noise and back, and a metric of how well that works."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from scoresde._shapes import flat
from scoresde.constraints import Count, NonNegativeInt, at_least, fitting
from scoresde.data.dataset import Dataset
from scoresde.data.transform import Transform
from scoresde.figures.latent import interpolation
from scoresde.files import writing
from scoresde.kept import Arrays
from scoresde.likelihood.batches import OnStep, in_batches
from scoresde.likelihood.items import digest, with_conditions
from scoresde.likelihood.ito import ito_density
from scoresde.likelihood.likelihood import Likelihood
from scoresde.model import Model
from scoresde.noise import Noise, take
from scoresde.results import Measurement, ModelMetric, Needs, Quantity
from scoresde.results.metric import evenly
from scoresde.sampling import EulerMaruyama, Grid, LambdaUniform, Sampler, Solver

StepCount = Annotated[int, at_least(1), fitting(1000)]
_SHOWN = 6  # pairs of items in the picture
_BETWEEN = 9  # states of each, the two items included


class LatentSpace:
    """Items as standard normal numbers, by the probability-flow ODE between the cut-off and noise, and back.

        z = x_T / prior_std

    The map is one to one, so that back and forth differs from the identity by the error of the solver alone. Song et
    al. 2021 (arXiv 2011.13456), section 4.3 and appendix D.

    Args:
        solver: of the probability-flow ODE; None for that of `Likelihood`.
        grid: of times; likewise.
        steps: of the solver, in each direction.

    Raises:
        InputError: a solver with noise, under which an item has no latent.
    """

    def __init__(self, solver: Solver | None = None, grid: Grid | None = None, steps: StepCount = 50) -> None:
        same = Likelihood(solver, grid, steps=steps)
        self.sampler = Sampler(same.solver, same.grid, steps, denoise=False)

    def encode(self, model: Model, x: Tensor, batch_size: int = 500, **request: Any) -> Tensor:
        """Items (n, *event) in model units as latents, float64; `request` are rows and on_step of `Sampler.sample`."""
        sde, request = model.sde, {"batch_size": batch_size, **request}
        return self._carried(model, x, at=sde.t_train, to=sde.T, **request) / sde.prior_std

    def decode(self, model: Model, z: Tensor, batch_size: int = 500, **request: Any) -> Tensor:
        """Latents (n, *event), such as standard normal numbers, as items in model units, float64; see `encode`."""
        sde, request = model.sde, {"batch_size": batch_size, **request}
        return self._carried(model, z * sde.prior_std, at=sde.T, to=sde.t_train, **request)

    def _carried(self, model: Model, x: Tensor, **request: Any) -> Tensor:
        model.needs_gaussian("latent")
        return self.sampler.sample(model, start=x.to(model.device, torch.float64), **request).x


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points at equal angles from a to b (n, *event), at the shares (k,) of the way: (n, k, *event).

        |x_s| / sin w * [sin((1 - s) w) a / |a| + sin(s w) b / |b|],   |x_s| = (1 - s) |a| + s |b|

    w is the angle between a and b. Latents in many dimensions have about the same length, which a straight line does
    not keep; those in few dimensions may not, so lengths have a part of their own. Opposite vectors are joined through
    zero, since no circle is the one between them. Shoemake 1985, eq. for Slerp, of the directions.
    """
    lengths = [flat(v).norm(dim=1, keepdim=True).clamp_min(1e-30) for v in (a, b)]
    cosine = (flat(a) / lengths[0] * (flat(b) / lengths[1])).sum(1, keepdim=True)
    angle = cosine.clamp(-1, 1).arccos().clamp(1e-6, math.pi - 1e-6)
    s, tail = share.to(angle)[None], (1,) * (a.ndim - 1)
    length = torch.lerp(lengths[0], lengths[1], s)
    parts = [torch.sin(w * angle) / torch.sin(angle) for w in (1 - s, s)]
    first, last = ((part * (length / own)).reshape(len(a), -1, *tail) for part, own in zip(parts, lengths, strict=True))
    found: Tensor = first * a[:, None] + last * b[:, None]
    return found


@dataclass(eq=False)
class LatentQuality(ModelMetric):
    """How well held-out items are carried to noise and back, and whether they arrive as normal numbers.

    An item gets the noise of the cut-off first, without which it is not what the model knows at that level. If the
    model is exact, the latents z of D numbers are standard normal: |z|^2 / D is 1 on average, with a variance of
    2 / D. With `ito` samples it also says how far the Ito density is from that of the ODE, see `ito_density`. Intervals
    are over items.

    Args:
        solver: see `LatentSpace`; or a name of conf/solver.
        grid: likewise; or a name of conf/grid.
        steps: of the solver.
        dequantise: spread items over the cells of their levels; None does so if the training did.
        n: number of items, evenly spaced; all that there are if these are fewer.
        batch_size: items computed at once; it does not change the values.
        ito: samples of the reverse SDE whose two densities are compared; 0 leaves that out.
        seed: of the noise of items, and of those samples.

    Raises:
        InputError: see `LatentSpace`.
    """

    solver: Solver | str | None = None
    grid: Grid | str | None = None
    steps: StepCount = 50
    dequantise: bool | None = None
    n: Annotated[int, at_least(2), fitting(64)] = 200
    batch_size: Count = 100
    ito: Annotated[int, at_least(0), fitting(64)] = 0
    seed: NonNegativeInt = 0

    quantities = (
        Quantity("round_trip", "round trip", "RMS error of encoded and decoded values, data units", direction="lower"),
        Quantity("round_trip_relative", "relative", "the same over the deviation of the data", direction="lower"),
        Quantity("latent_square", "latent square", "mean square of a latent value", note="1 for normal numbers"),
        Quantity(
            "latent_spread", "latent spread", "variance of |z|^2 / D over that of normal numbers",
            note="1 for normal numbers; above it some items lie too far out, and others too far in",
        ),
        Quantity("ito_gap", "Ito gap", "mean of the Ito density less that of the ODE", unit="nats"),
        Quantity("ito_error", "Ito error", "root mean square of the same", unit="nats", direction="lower"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        self._likelihood = Likelihood.of(self.solver, self.grid, None, self.steps)
        self._space = LatentSpace(self._likelihood.solver, self._likelihood.grid, self.steps)

    def needs(self) -> Needs:
        return Needs(heldout=2)

    def check(self, model: Model, dataset: Dataset) -> None:
        model.needs_gaussian("latent")

    def __call__(self, model: Model, dataset: Dataset, place: Path | None) -> Mapping[str, Measurement]:
        if self.dequantise is None:
            return replace(self, dequantise=dataset.dequantised)(model, dataset, place)
        self.check(model, dataset)
        index = evenly(torch.arange(len(dataset.heldout)), self.n)
        own, x0 = with_conditions(model, dataset, heldout=True).of_samples(index), dataset.heldout[index]

        def carried(rows: range, on_step: OnStep) -> Arrays:
            request: dict[str, Any] = {"rows": rows, "on_step": on_step}
            x = self._noised(own, dataset.transform, x0, rows)
            z = self._space.encode(own, x, **request).cpu()
            back, decode = self._space.decode(own, z, **request).cpu(), dataset.transform.decode
            return {
                "z": z.numpy(),
                "away": flat(decode(back) - decode(x)).square().mean(1).numpy(),
                "relative": flat(back - x).square().mean(1).numpy() / dataset.sigma_data**2,
            }

        of = digest(own, x0)
        with in_batches(self, "latents", len(x0) + self.ito, of, place) as compute:
            items = compute("items", range(len(x0)), carried, 2 * self.steps + 2)
            gaps = compute("ito", range(self.ito), partial(self._ito, model), self.steps + 1) if self.ito else {}
        z = torch.from_numpy(items["z"])
        squares, size = flat(z).square().mean(1), flat(z).shape[1]
        found = {
            "round_trip": _root(torch.from_numpy(items["away"])),
            "round_trip_relative": _root(torch.from_numpy(items["relative"])),
            "latent_square": Measurement.mean(squares.tolist()),
            "latent_spread": Measurement.mean(((squares - squares.mean()) ** 2 * size / 2).tolist()),
        }
        for gap in map(torch.from_numpy, gaps.values()):
            found |= {"ito_gap": Measurement.mean(gap.tolist()), "ito_error": _root(gap**2)}
        if place is not None:
            with writing(place, "out"):
                place.mkdir(parents=True, exist_ok=True)
            self._picture(own, z, dataset, place / "interpolation.png")
        return found

    def _noised(self, model: Model, transform: Transform, x0: Tensor, rows: range) -> Tensor:
        """Some of the items x0 at the cut-off, float64."""
        x, noise = take(x0, rows).double(), Noise(self.seed, rows)
        if self.dequantise:
            x = transform.dequantised(x, noise.uniform("dequantise", 0, x.shape))
        alpha, sigma, _ = model.sde.at(model.sde.t_train)
        return alpha * x + sigma * noise.normal("latent", 0, x.shape, dtype=x.dtype)

    def _picture(self, model: Model, z: Tensor, dataset: Dataset, file: Path) -> None:
        """Items, and what lies between each and the next one in the latent space."""
        pairs = evenly(z, 2 * _SHOWN)
        count = len(pairs) // 2
        between = slerp(pairs[0 : 2 * count : 2], pairs[1 : 2 * count : 2], torch.linspace(0, 1, _BETWEEN))
        x = self._space.decode(model, between.flatten(0, 1), self.batch_size).cpu()
        interpolation(x.reshape(count, _BETWEEN, *x.shape[1:]), dataset.heldout, dataset.transform, file)

    def _ito(self, model: Model, rows: range, on_step: OnStep) -> Arrays:
        """The Ito density of some samples less that of the ODE."""
        sampler = Sampler(EulerMaruyama(), LambdaUniform(), self.steps, denoise=False)
        x, nats = ito_density(model, sampler, len(rows), seed=self.seed, first=rows.start)
        exact = self._likelihood(model, x, seed=self.seed, rows=rows, batch_size=len(rows), on_step=on_step)
        return {"gap": (nats - exact.nats.cpu()).numpy()}


def _root(squares: Tensor) -> Measurement:
    """The root of the mean of squares, with its interval to first order."""
    found = Measurement.mean(squares.tolist())
    root = math.sqrt(found.value)
    return Measurement(root, half=found.half / (2 * root) if root else 0.0)
