"""The time grid that a few pilot samples prefer: looked up once for a model, then used for all of its samples."""

import copy
import pathlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from scoresde.constraints import checked
from scoresde.errors import InputError, require
from scoresde.evaluations import count_evaluations, evaluating
from scoresde.files import read_json, write_json, writing
from scoresde.model import Model
from scoresde.noise import Noise, derived_seed
from scoresde.progress import bar, note
from scoresde.sampling.grid import Grid, Terminal
from scoresde.sde import SDE

FILE = pathlib.Path("tuned", "pilot.json")
_LOWS = (0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.25)
_HIGHS = (0.4, 0.8, 1.6, 4.0)  # times the default
_ROUNDS = ((29, range(4)), (10, range(4, 12)), (4, range(12, 36)))  # grids, and the samples they get
SAMPLES = _ROUNDS[-1][1].stop
_SEED = derived_seed(0, "pilot", 0)
_KEPT = 50  # lookups in a file, the newest
_SAME = 0.01  # what predictions of one model may differ by, from device to device, relative


@dataclass(frozen=True)
class Lookup:
    """What was found for a solver and a model.

    Attributes:
        solver: its description, as `repr` gives it.
        sde: likewise.
        steps: of the sampler.
        seen: predictions of the model, by which it is known again.
        low: of `Terminal`.
        high: likewise.
        evaluations: of the model, by the pilot.
    """

    solver: str
    sde: str
    steps: int
    seen: list[float]
    low: float
    high: float | None
    evaluations: int

    def same(self, other: "Lookup") -> bool:
        """Whether both are of one solver and one model."""
        alike = (self.solver, self.sde, self.steps) == (other.solver, other.sde, other.steps)
        pairs = zip(self.seen, other.seen, strict=False)
        return alike and len(self.seen) == len(other.seen) and all(abs(a - b) < _SAME * (1 + abs(a)) for a, b in pairs)


@dataclass(frozen=True, repr=False)
class PilotGrid(Grid):
    """`Terminal` with the levels that a few pilot samples prefer, looked up once for a model and a solver of the ODE.

    29 grids compete: 7 values of `low` with 4 of `high`, and the default. 4, 12 and 36 samples take the steps on them,
    and after each round that third goes on whose endpoints are closest, in the mean, to those of many steps. The grid
    serves all samples, so that sample k still depends on the seed and k alone. It is the default until a sampler draws,
    and with fewer than 3 steps. This is successive halving by thirds (Jamieson and Talwalkar 2016, arXiv 1502.07943).

    Args:
        run: the folder of a run, which keeps what was found; None keeps it in the object.

    Raises:
        InputError: from a sampler: its solver adds noise or chooses its own steps, or the samples are not finite.
    """

    run: pathlib.Path | str | None = None
    _found: list[Lookup] = field(default_factory=list, init=False, compare=False)

    def scaled(self, model: Model, event_shape: Sequence[int] | None = None) -> Grid:
        return Terminal().scaled(model, event_shape)

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        return Terminal().place(sde, points, start, end)

    def lookup(self, sampler: Any, model: Model, event_shape: Sequence[int] | None) -> Grid:
        rule = sampler.solver
        if sampler.steps < 3:
            return Terminal()
        if event_shape is None:
            raise InputError("event_shape: a pilot needs it, and this model does not know its own; give it")
        wanted = "a pilot compares endpoints of the probability-flow ODE; give such a solver, on a fixed grid"
        require(rule.eta == 0 and not rule.adaptive, "grid", self, wanted)
        own = copy.copy(rule)
        if "run" in vars(own):
            object.__setattr__(own, "run", None)  # the folder may move
        new = Lookup(repr(own), repr(model.sde), sampler.steps, _seen(model, event_shape), 1.0, None, 0)
        known = self._known()
        found = next((kept for kept in known if kept.same(new)), None)
        if found is None:
            with count_evaluations() as spent:
                best = _best(sampler, model, event_shape)
            found = replace(new, low=best.low, high=best.high, evaluations=spent.samples)
            cost = f"{spent.samples:,} evaluations, once"
            note(f"grid for {sampler.steps} steps from a pilot of {SAMPLES} samples: {cost}")
            self._keep([*known, found][-_KEPT:])
        return Terminal(found.low, found.high)

    def _known(self) -> list[Lookup]:
        if self.run is None or self._found:
            return self._found
        file = pathlib.Path(self.run, FILE)
        content = read_json(file, "run").get("lookups") if file.exists() else []
        found: list[Lookup] = checked(content, f"run: {file}: lookups", list[Lookup])
        return found

    def _keep(self, lookups: list[Lookup]) -> None:
        """In the object and in the folder of the run; one that cannot be written is a note, and looked at again."""
        self._found[:] = lookups
        if self.run is not None:
            file = pathlib.Path(self.run, FILE)
            try:
                with writing(file):
                    file.parent.mkdir(exist_ok=True)
                write_json(file, {"lookups": [asdict(lookup) for lookup in lookups]})
            except InputError as error:
                note(f"warning: {error}")


def _seen(model: Model, event_shape: Sequence[int]) -> list[float]:
    """The first numbers of eps_hat of four samples, at three levels of noise."""
    sde, rows, seen = model.sde, range(4), list[float]()
    shape, noise = (len(rows), *event_shape), Noise(_SEED, rows)
    x0, eps = (noise.normal(name, 0, shape, model.device, torch.float32) for name in ("x0", "eps"))
    with torch.no_grad(), evaluating(model):
        for ratio in (1.0, 0.1, 0.02):
            t = float(sde.t_of_lam(-torch.tensor(ratio * model.sigma_data, dtype=torch.float64).log()))
            level = sde.at(t := min(max(t, sde.t_min), sde.t_start))
            x = level.alpha * model.sigma_data * x0 + level.sigma * eps
            found = model.of_samples(torch.tensor(rows))(x, t).eps
            seen += found.flatten(1)[:, :16].flatten().tolist()
    return seen


def _best(sampler: Any, model: Model, event_shape: Sequence[int]) -> Terminal:
    """The grid whose endpoints are closest to those of many steps."""
    steps, fine = sampler.steps, max(80, 4 * sampler.steps)
    work = sum(grids * len(rows) for grids, rows in _ROUNDS) * steps + SAMPLES * fine
    with bar(work, "pilot", unit=" evaluations", leave=False) as shown:

        def ends(grid: Grid, steps: int, rows: range) -> Tensor:
            mine = copy.copy(sampler)
            mine.grid, mine.steps, mine.corrector, mine.denoise = grid, steps, None, True
            drawn = mine.batches(model, event_shape, rows=rows, seed=_SEED, on_step=shown.update)
            return torch.cat([part.x for part in drawn]).flatten(1)

        exact = ends(Terminal(0.02, 40.0), fine, range(SAMPLES))
        usual = Terminal().scaled(model, event_shape).highest
        pairs = (Terminal(low, factor * usual) for low, factor in product(_LOWS, _HIGHS))
        total = dict.fromkeys((Terminal(), *pairs), 0.0)
        for count, rows in _ROUNDS:
            for grid in sorted(total, key=total.__getitem__)[count:]:
                del total[grid]
            for grid in total:
                total[grid] += float((ends(grid, steps, rows) - exact[rows.start : rows.stop]).norm(dim=1).sum())
    return min(total, key=total.__getitem__)
