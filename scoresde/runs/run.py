"""A trained model from its run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.control.guidance import Label, condition_of, labelled
from scoresde.data import Dataset, Transform
from scoresde.errors import refuse, require
from scoresde.files import of_the_disk, read_json
from scoresde.likelihood import LatentSpace, Likelihood, LogDensity
from scoresde.model import Model, NetworkModel
from scoresde.named import name_of, named
from scoresde.results import Results
from scoresde.runs.config import get, read_config, refuse_classifier, stored_data
from scoresde.runs.folder import SUMMARY
from scoresde.runs.history import history
from scoresde.runs.interpolation import Interpolation, interpolate
from scoresde.runs.loading import Loaded, loaded
from scoresde.runs.samples import RunSamples, draw
from scoresde.runs.sizes import require_batch, require_samples
from scoresde.sampling import Grid, Sampler, Samples, Solver
from scoresde.sde import SDE


@dataclass(repr=False)
class Run:
    """A trained model and what is needed to use it, from `load`; how good it is says `scoresde.evaluate`.

    Attributes:
        path: the folder.
        model: the network with its SDE and preconditioning, in evaluation mode.
        transform: the map between model units and data units.
        event_shape: shape of one sample.
        config: the stored configuration as plain values.
        step: the training step of these weights.
    """

    path: Path
    model: NetworkModel
    transform: Transform
    event_shape: tuple[int, ...]
    config: dict[str, Any]
    step: int
    _allow: Sequence[str] = field(default=(), repr=False)

    @property
    def packages(self) -> Sequence[str]:
        """Packages of your own whose classes its configuration may name."""
        return self._allow

    @property
    def plain(self) -> Model:
        """The model to sample from without a label."""
        return self.conditioned(self.model)

    def conditioned(self, model: NetworkModel, label: Label = None, guidance: float = 1.0) -> Model:
        """A model with the network of this one, conditioned on a class, or on several that the samples take in turn.

        Args:
            model: `model`, or that under another SDE.
            label: a class or several; None for `plain`.
            guidance: see `scoresde.Conditioned`.

        Raises:
            InputError: the network knows no classes, or not these; or it was never trained without one.
        """
        if label is not None or guidance != 1:
            return labelled(model, label, guidance)
        known = condition_of(model)
        always = known is not None and known.kind == "class" and known.dropout == 0
        why = "was trained with condition_dropout=0, so its network always needs a class"
        refuse(always, f"run: {self.path} {why}; give label=0 or label=[0,1,2]")
        return model

    @property
    def sde(self) -> SDE:
        """The forward diffusion of the model."""
        return self.model.sde

    def sample(
        self,
        n: int,
        *,
        steps: int = 50,
        solver: str | Solver = "auto",
        grid: str | Grid | None = None,
        eta: float | None = None,
        label: Label = None,
        guidance: float = 1.0,
        seed: int = 0,
        batch_size: int = 500,
        sampler: Sampler | None = None,
    ) -> RunSamples:
        """Draw samples in data units.

        Args:
            n: number of samples.
            steps: of the sampler, the last one included.
            solver: an object, or a name of conf/solver such as `dpmpp_2m`.
            grid: likewise; None for the default of the solver.
            eta: noise level; None keeps that of the solver.
            label: a class, or several that the samples take in turn, of a run trained with classes.
            guidance: above 1 the samples follow the label more closely.
            seed: with the index of a sample, decides everything random about it.
            batch_size: samples computed at once; it does not change them.
            sampler: in place of steps, solver, grid and eta.

        Raises:
            InputError: an unknown name, a value out of range, or a label that the network does not take.
        """
        if sampler is None:
            place = {"runtime": {"run": self.path}}
            rule = named("solver", solver, **place) if isinstance(solver, str) else solver
            times = named("grid", grid, **place) if isinstance(grid, str) else grid
            sampler = Sampler(rule, times, steps=steps, eta=eta)
        model = self.conditioned(self.model, label, guidance)
        require_samples(n, self.event_shape)
        require_batch("batch_size", min(n, batch_size), self.event_shape, str(model.device))
        drawn = Samples.joined(draw(sampler, model, self.event_shape, n, seed, batch_size))
        title = f"{name_of('solver', sampler.solver)}, {drawn.nfe:.0f} evaluations"
        return RunSamples(drawn.x, self.transform, drawn.nfe, drawn.seconds, title, drawn.choices)

    def log_prob(
        self,
        x: Tensor | np.ndarray,
        likelihood: Likelihood | None = None,
        *,
        label: Label = None,
        seed: int = 0,
        batch_size: int = 500,
    ) -> LogDensity:
        """Log densities in nats of items (n, *event) in data units, at the cut-off; of their values, undequantised.

        Args:
            x: the items.
            likelihood: solver, grid, divergence and steps; `Likelihood()` by default.
            label: see `sample`.
            seed: of random directions.
            batch_size: items computed at once; it does not change the densities.

        Raises:
            InputError: items of another shape or not finite, or a model without densities.
        """
        shape = tuple(x.shape[1:])
        require(shape == self.event_shape, "x", tuple(x.shape), f"this run has items of shape {self.event_shape}")
        items = self.transform.encode(torch.as_tensor(x).to("cpu", torch.float64))
        model = self.conditioned(self.model, label)
        found = (likelihood or Likelihood())(model, items, seed=seed, batch_size=batch_size)
        return replace(found, nats=found.nats - self.transform.log_volume)

    def encode(self, x: Tensor, *, label: Label = None, space: LatentSpace | None = None) -> Tensor:
        """Items (n, *event) in data units as latents, float64: standard normal numbers if the model is exact.

        Args:
            x: the items.
            label: see `sample`.
            space: solver, grid and steps; None for the default ones, see `scoresde.likelihood.LatentSpace`.

        Raises:
            InputError: items of another shape.
        """
        require(tuple(x.shape[1:]) == self.event_shape, "x", tuple(x.shape), f"give items {self.event_shape}")
        model = self.conditioned(self.model, label)
        return (space or LatentSpace()).encode(model, self.transform.encode(x.double())).cpu()

    def decode(self, z: Tensor, *, label: Label = None, space: LatentSpace | None = None) -> Tensor:
        """The inverse of `encode`: latents (n, *event), such as standard normal numbers, as items in data units."""
        require(tuple(z.shape[1:]) == self.event_shape, "z", tuple(z.shape), f"give latents {self.event_shape}")
        model = self.conditioned(self.model, label)
        return self.transform.decode((space or LatentSpace()).decode(model, z).cpu())

    def interpolate(
        self, first: Any, last: Any, count: int = 8, *, label: Label = None, space: LatentSpace | None = None
    ) -> Interpolation:
        """Items that lead from one to another through the latent space, with the error of the round trip.

        Args:
            first: an item in data units, (*event).
            last: likewise.
            count: of items, at least 2.
            label: see `sample`.
            space: see `encode`.

        Raises:
            InputError: items of another shape, or fewer than two wanted.
        """
        require(count > 1, "count", count, "give at least 2")
        ends = {"first": torch.as_tensor(first), "last": torch.as_tensor(last)}
        for key, x in ends.items():
            require(tuple(x.shape) == self.event_shape, key, tuple(x.shape), f"give an item {self.event_shape}")
        x = self.transform.encode(torch.stack([x.to("cpu", torch.float64) for x in ends.values()]))
        return interpolate(self.conditioned(self.model, label), x, count, self.transform, space)

    def dataset(self) -> Dataset:
        """Load the data on which the model was trained, from where the configuration says it is, in its units."""
        dataset: Dataset = stored_data(self.config, self.path, self._allow).load()
        own = dataset.under(self.transform, f"data: {self.path}")
        return replace(own, dequantised=True) if get(self.config, "trainer.dequantise") is True else own

    @property
    def summary(self) -> dict[str, Any]:
        """The results of the final samples, as in summary.json; empty before there are any."""
        file = self.path / SUMMARY
        return read_json(file, "run") if file.is_file() else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Each resume with other settings: its `step`, and `changed`, which holds [before, after] by name."""
        return history(self.path)

    @property
    def results(self) -> Results | None:
        """The table of the final samples; None before there are any."""
        content = self.summary.get("results")
        return None if content is None else Results.of_content(content, self.path / SUMMARY)

    def __repr__(self) -> str:
        return f"<run {self.path}: {type(self.model.net).__name__} on {self.sde}, step {self.step}>"

    def _repr_html_(self) -> str:
        table = "" if self.results is None else self.results._repr_html_()
        return f"<p>{escape(repr(self))}</p>{table}"


@of_the_disk()
def load(
    run: str | Path,
    checkpoint: str | int = "last",
    device: str = "auto",
    weights: str = "ema",
    allow: Sequence[str] = (),
    *,
    net: torch.nn.Module | None = None,
    sde: SDE | None = None,
) -> Run:
    """Load a trained model from a run folder; the training data need not be there.

    Args:
        run: the folder.
        checkpoint: `last`, `best`, the number of a step, or `length-0.1` for an average made by `scoresde ema`.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`.
        weights: the moving average of the weights (`ema`), those of the last step (`raw`), or another average that the
            run keeps, such as `ema-0.9999` or `power-0.1`.
        allow: packages of your own whose classes the configuration may name. What the folder itself says about this
            is ignored.
        net: for a run that was trained from Python with a network that no configuration can name: an equal one.
        sde: likewise, an equal SDE.

    Raises:
        InputError: not a run, no such checkpoint, a checkpoint of another architecture, a class that is not allowed.
    """
    path = Path(run)
    cfg = read_config(path)
    refuse_classifier(cfg, path)
    found: Loaded[NetworkModel] = loaded(path, cfg, NetworkModel, checkpoint, device, weights, allow, net, sde)
    found.model.event_shape = found.event_shape
    return Run(**vars(found), _allow=allow)
