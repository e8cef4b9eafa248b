"""Methods of posterior sampling on a trained run, of items whose truth is known or of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.comparison.inverse import COVERAGE, PRODUCTS, covered
from scoresde.comparison.trained import Trained
from scoresde.control.guidance import Label
from scoresde.data import Dataset
from scoresde.errors import InputError, refuse
from scoresde.model import Model
from scoresde.named import name_of
from scoresde.posterior import Method, Posterior
from scoresde.results import Measurement, Quantity
from scoresde.runs.observed import Observed, error_of
from scoresde.sampling import Samples

_MEAN = "of the mean of the samples"


class Inferred(Trained):
    """Items of a run seen through an observation: no exact posterior is known, but the truth is.

    Seed k observes the held-out item held_out + k, or the same item with noise of its own. The mean of its samples is
    compared with the truth, in data units; what was measured without a truth leaves the residual alone.

    Args:
        observed: what is seen of which items.
        seeds: of the comparison.
        label: see `Trained`.
        guidance: see `Trained`.

    Raises:
        InputError: fewer held-out items than seeds, a label or guidance that the run does not have.
    """

    quantities = (
        Quantity("psnr", "PSNR", f"signal-to-noise ratio {_MEAN}", unit="dB", direction="higher"),
        Quantity("rmse", "RMSE", f"root mean square error {_MEAN}", unit="data units", direction="lower"),
        Quantity(
            "residual", "residual", "root mean square of (y - A(x)) / sigma_y of a sample", "about 1 for the truth"
        ),
        Quantity(
            "deviation", "spread", "root mean square standard deviation of the values of samples", unit="data units"
        ),
        *COVERAGE,
        PRODUCTS,
    )

    def __init__(self, observed: Observed, seeds: Sequence[int], label: Label = None, guidance: float = 1.0) -> None:
        super().__init__(observed.run, label, guidance)
        self.observed, self.seeds, self.largest_n = observed, list(seeds), None
        self.seen = cache(self._seen)
        if observed.source == "held_out":
            self._check_items()
        self.name += f", seen by {name_of('observation', observed.observation)}"

    def _check_items(self) -> None:
        first, many = self.observed.place, len(self.observed.heldout)
        last = first + self.seeds[-1]
        span = f"seeds {self.seeds[0]} to {self.seeds[-1]} take items up to {last}, and there are {many}"
        refuse(last >= many, f"observation.held_out: {first} is not allowed; {span}; give less, or fewer seeds")

    def _seen(self, seed: int) -> tuple[Tensor | None, Tensor]:
        """The truth of a seed, if it is known, and what was observed, (1, *seen), in data units."""
        truth = self.observed.truth(seed if self.observed.source == "held_out" else 0)
        return truth, self.observed.measured(truth, seed)

    def asked(self, model: Model, method: Any, seed: int) -> Model:
        if not isinstance(method, Method):
            wanted = "needs a posterior that is known exactly; give problem=inverse_mixture or another inverse_*"
            raise InputError(f"posteriors: {'exact' if isinstance(method, str) else 'none'} {wanted}")
        own = self.observed.own
        return Posterior(model, own.to(model.device), own.encode(self.seen(seed)[1]).float(), method).eval()

    def real(self, n: int, seeds: Sequence[int]) -> list[Dataset]:
        return [self.dataset for _ in seeds]

    def measured(self, drawn: Samples, seed: int, method: Any, real: Dataset) -> dict[str, Measurement]:
        (truth, y), x = self.seen(seed), drawn.x.double().cpu()
        items = self.run.transform.decode(x)
        found = {} if truth is None else error_of(items.mean(0), truth, self.run)
        found = {key: found[key] for key in ("psnr", "rmse") if key in found}
        found |= {"residual": float(self.observed.residuals(y, x).mean())}
        found |= {"deviation": float(items.var(0).mean().sqrt())}
        found |= {} if truth is None else covered(items, truth)
        return {key: Measurement(value) for key, value in {**found, "products": drawn.products}.items()}

    def notes(self, n: int, seeds: int) -> Iterator[str]:
        source = self.observed.source
        known = "No truth is known, so methods are not ranked." if source == "measured" else ""
        same = {
            "item": "All seeds observe one item, with noise of their own",
            "measured": "All seeds observe the same",
        }
        items = same.get(source, "Seed k observes the held-out item of number held_out + k")
        yield f"{items}; intervals are over these. {known}".strip()

    def pictured(self) -> dict[str, list[np.ndarray]]:
        found: dict[str, list[np.ndarray]] = {}
        for seed in self.seeds:
            truth, y = self.seen(seed)
            lines = ({} if truth is None else {"truth": truth.numpy()}) | self.observed.picture(y)
            for name, image in lines.items():
                found.setdefault(name, []).append(image)
        return found

    def pictured_of(self, drawn: Samples) -> dict[str, np.ndarray]:
        x = self.run.transform.decode(drawn.x.double().cpu())
        return {"sample": x[0].numpy(), "mean": torch.mean(x, 0).numpy()}
