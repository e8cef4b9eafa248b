"""Grids and coefficients that `scoresde tune` has found for a model, read from where it keeps them."""

import dataclasses
import json
import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from scoresde.build import build
from scoresde.constraints import checked, hints
from scoresde.errors import TARGET, InputError, refuse, require
from scoresde.files import read_json
from scoresde.model import Model
from scoresde.sampling.auto import Combination
from scoresde.sampling.corrector import Corrector
from scoresde.sampling.exponential import ExponentialMultistep
from scoresde.sampling.grid import Grid
from scoresde.sampling.sampler import Sampler
from scoresde.sampling.solver import Draw, GridSolver, NoiseSource, Path, Solver, Step
from scoresde.sde import SDE

FOLDER, AUTO = "tuned", {"solver": "auto"}


@dataclass(frozen=True)
class TunedRule:
    """What is kept of a tuning: for one SDE and one number of points.

    Attributes:
        sde: its description, as `repr` gives it.
        times: of the grid.
        rule: AUTO, or the fields of the `ExponentialMultistep` that earlier versions tuned.
        coefficients: shifts of `scoresde.sampling.auto.Combination`, or rows of the other rule; None for none.
        report: errors before and after, the gain, the start and the cost.
    """

    sde: str
    times: list[float]
    rule: dict[str, Any]
    coefficients: list[list[float]] | None
    report: dict[str, Any]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def file_for(run: pathlib.Path | str, points: int) -> pathlib.Path:
    """Where the tuning for so many steps lies in a run."""
    return pathlib.Path(run) / FOLDER / f"steps-{points}.json"


def steps_in(run: pathlib.Path | str) -> list[int]:
    """The numbers of steps for which there is a tuning in a run."""
    files = pathlib.Path(run, FOLDER).glob("steps-*.json")
    return sorted(int(name) for file in files if (name := file.stem.removeprefix("steps-")).isdecimal())


def read(run: pathlib.Path | str | None, points: int, sde: SDE) -> TunedRule:
    """The tuning for so many points.

    Raises:
        InputError: no run, nothing tuned for so many steps, or tuned for another SDE.
    """
    if run is None:
        raise InputError("run: a tuned grid belongs to a trained run, and none is given")
    file = file_for(run, points)
    if not file.is_file():
        known = f" (there are {', '.join(map(str, there))})" if (there := steps_in(run)) else ""
        make = f"scoresde tune {shlex.quote(f'run={run}')} sampler.steps={points}"
        raise InputError(f"steps: {run} has no grid tuned for {points}{known}; make one with {make}")
    found = _kept(file)
    refuse(len(found.times) != points, f"run: {file} has {len(found.times)} times; tune again")
    other = found.sde not in (repr(sde), sde.attributes_text())
    refuse(other, f"sde: {file} was tuned for {found.sde}, not for {sde!r}; tune again")
    return found


def _kept(file: pathlib.Path) -> TunedRule:
    """What a file holds, which may be a stranger's."""
    content, kinds = read_json(file, "run"), hints(TunedRule)
    refuse(content.keys() != kinds.keys(), f"run: {file} does not hold {', '.join(kinds)}; tune again")
    found = TunedRule(**{key: checked(content[key], f"run: {file}: {key}", kind) for key, kind in kinds.items()})
    found.rule.update({"predictor": found.rule.pop("order")} if "order" in found.rule else {})  # the former name
    return found


@dataclass(frozen=True, repr=False)
class TunedGrid(Grid):
    """The grid that `scoresde tune` has found for the run, the SDE and the number of steps.

    Args:
        run: the folder of the run.

    Raises:
        InputError: from a call: nothing tuned for so many steps, for another SDE, or for other levels than T and t_min.
    """

    run: pathlib.Path | str | None = None

    def place(self, sde: SDE, points: int, start: float | None, end: float | None) -> Tensor:
        for name, t, known in (("start", start, sde.T), ("end", end, sde.t_min)):
            require(t in (None, known), name, t, f"a tuned grid has {known:g} there; give another grid")
        return torch.tensor(read(self.run, points, sde).times, dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class GivenRows(GridSolver):
    """A multistep rule with given coefficients, for one grid.

    Args:
        rule: without noise.
        rows: as `ExponentialMultistep.coefficients` makes them.
    """

    rule: ExponentialMultistep
    rows: Sequence[Sequence[float]]
    extrapolates = True

    def plan(self, sde: SDE, times: Tensor) -> Sequence[Any]:
        wanted = self.rule.coefficients(sde, times).shape
        wrong = f"rows: those of a grid of {len(times)} times must be of shape {tuple(wanted)}; tune again"
        refuse([len(row) for row in self.rows] != [wanted[1]] * wanted[0], wrong)
        return self.rows

    def step(self, model: Model, x: Tensor, plan: Any, state: Any, noise: Draw) -> Step:
        return self.rule.step(model, x, plan, state, noise)


@dataclass(frozen=True, repr=False)
class Tuned(Solver):
    """The solver that was tuned together with its grid, with its coefficients if they were tuned too.

    Args:
        run: the folder of the run.

    Raises:
        InputError: from a call: nothing tuned for so many steps, for another SDE, or another grid.
    """

    run: pathlib.Path | str | None = None

    bidirectional = False
    extrapolates = reaches_zero = True

    @property
    def default_grid(self) -> Grid:
        return TunedGrid(self.run)

    @property
    def tuned(self) -> list[int]:
        """The numbers of steps for which it was tuned."""
        return steps_in(self.run) if self.run else []

    def costs(self, points: Sequence[int]) -> dict[int, int]:
        """Evaluations that the tuning for so many steps took in all, where there was one."""
        files = {n: file_for(self.run, n) for n in points} if self.run else {}
        reports = {n: _kept(f).report for n, f in files.items() if f.is_file()}
        return {n: checked(report.get("evaluations"), "run: evaluations", int) for n, report in reports.items()}

    def carry(self, model: Model, times: Tensor, x: Tensor, noise: NoiseSource, corrector: Corrector | None) -> Path:
        whole = float(times[-1]) == 0
        points = len(times) - whole
        found = read(self.run, points, model.sde)
        if found.times != times[:points].tolist():
            raise InputError("grid: the tuned solver goes with its own grid; leave the grid out, or use grid=tuned")
        rule = self._rule(found, model, points, again=corrector is None)
        if not whole:
            return rule.carry(model, times, x, noise, corrector)
        return islice(Sampler(rule, self.default_grid, points).path(model, x, noise), 1, None)

    def _rule(self, found: TunedRule, model: Model, points: int, again: bool) -> GridSolver:
        if found.rule == AUTO:
            return Combination(model.sigma_data, again, shifts=found.coefficients)
        place = f"run: {file_for(self.run or '', points)}: rule"
        rule: ExponentialMultistep = build({**found.rule, TARGET: "scoresde.sampling.ExponentialMultistep"}, place)
        return rule if found.coefficients is None else GivenRows(rule, found.coefficients)
