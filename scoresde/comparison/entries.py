"""The samplers and SDEs that a comparison names, from the YAML files of their groups or as objects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scoresde.build import build, did_you_mean
from scoresde.comparison.budget import Candidate
from scoresde.comparison.peer_solver import PREFIX, PeerSolver
from scoresde.constraints import signature
from scoresde.described import describe
from scoresde.errors import TARGET, InputError, refuse
from scoresde.named import name_of, option, options
from scoresde.sampling import Corrector, Grid, Sampler, Solver
from scoresde.sde import SDE

_TOLERANCES = ("rtol", "atol", "tolerance")
_PARTS = ("solver", "corrector", "grid", "name")


@dataclass(frozen=True)
class Defaults:
    """What entries leave open.

    Attributes:
        tolerances: an adaptive solver without one becomes a sampler for each.
        grid, corrector: of entries that name none.
        allow: packages of the user's own.
        run: the folder of a run, for what was tuned on it.
        folders: with YAML files of the user's own.
    """

    tolerances: Sequence[float] = (1e-3, 1e-5)
    grid: Grid | None = None
    corrector: Corrector | None = None
    allow: Sequence[str] = ()
    run: Path | None = None
    folders: Iterable[Path] = ()


def candidates(entries: Any, defaults: Defaults) -> list[Candidate]:
    """The samplers of `solvers`.

    Args:
        entries: one or several of SOLVER[+CORRECTOR][@GRID] as text, or peer:NAME for a sampler of another library,
            mappings with `solver` and changes of its arguments, solvers, and samplers, whose number of steps is
            ignored; or a mapping of names to solvers and samplers.
        defaults: what entries leave open.

    Raises:
        InputError: an entry or a name that is not known, with the nearest right one.
    """
    if isinstance(entries, Mapping) and "solver" not in entries:
        return [_of_object(name, entry, defaults) for name, entry in entries.items()]
    several = entries if isinstance(entries, Sequence) and not isinstance(entries, str) else [entries]
    found: list[Candidate] = []
    for entry in filter(None, several):
        if isinstance(entry, str) and entry.startswith(PREFIX):
            found.append(Candidate(entry, PeerSolver(entry.removeprefix(PREFIX))))
            continue
        named = isinstance(entry, str | Mapping)
        found += _Entry(entry, defaults).candidates() if named else [_of_object(None, entry, defaults)]
    return found


def _of_object(name: str | None, entry: Any, defaults: Defaults) -> Candidate:
    """A candidate from a solver or a sampler."""
    if isinstance(entry, Sampler):
        own = Candidate("", entry.solver, entry.grid, entry.corrector)
    elif isinstance(entry, Solver):
        own = Candidate("", entry, defaults.grid, None if entry.adaptive else defaults.corrector)
    else:
        raise InputError(f"solvers: {entry!r} is not a sampler; give a name such as 'heun', a Solver or a Sampler")
    parts = {"corrector": own.corrector, "grid": own.grid}
    names = ("" if part is None else name_of(group, part) for group, part in parts.items())
    tolerance = getattr(own.solver, "rtol", None) if own.solver.adaptive else None
    return replace(own, name=name or _marked(_label(own.solver), *names), tolerance=tolerance)


def _label(solver: Solver) -> str:
    """Its name, with the arguments that are not those of that name."""
    cfg = describe(solver)
    name = name_of("solver", cfg)
    usual = {key: parameter.default for key, parameter in signature(type(solver)).parameters.items()}
    usual |= option("solver", name) if name in options("solver") else {}
    changes = (f"{k}={v}" for k, v in cfg.items() if k != TARGET and v != usual[k] and not isinstance(v, Mapping))
    return f"{name} {', '.join(changes)}".strip()


def _marked(solver: str, corrector: str = "", grid: str = "") -> str:
    """SOLVER[+CORRECTOR][@GRID]."""
    return solver + (f"+{corrector}" if corrector else "") + (f"@{grid}" if grid else "")


class _Entry:
    """An entry in text or as a mapping."""

    def __init__(self, entry: str | Mapping[str, Any], defaults: Defaults) -> None:
        self.defaults, parts = defaults, _parsed(entry)
        self.name, self.where, self.solver = parts["name"], f"solvers: {parts['name']}", parts["solver"]
        self.grid, self.corrector = parts.get("grid"), parts.get("corrector")
        self.plain = self._option("solver", self.solver)
        self.changes = {k: v for k, v in parts.items() if k not in _PARTS}
        for key in self.changes:
            unknown = key not in self.plain and self.plain.get(TARGET) != "???"  # of solver=custom any may be
            refuse(unknown, f"{self.where}: {self.solver} has no {key}{did_you_mean(key, self.plain)}")

    def candidates(self) -> list[Candidate]:
        """One candidate, or for an adaptive solver without a tolerance one for each."""
        there = [key for key in _TOLERANCES if key in self.plain]
        own = self._candidate(self.name, {})
        if not own.solver.adaptive or not there or any(key in self.changes for key in there):
            return [own]
        given = [float(tolerance) for tolerance in self.defaults.tolerances]
        return [self._candidate(f"{self.name} {t:g}", dict.fromkeys(there, t)) for t in given]

    def _candidate(self, name: str, changes: Mapping[str, Any]) -> Candidate:
        values = {**self.plain, **self.changes, **changes}
        solver = self._built(values, Solver)
        grid = self._built(self._option("grid", self.grid), Grid) if self.grid else self.defaults.grid
        # a black-box solver takes no corrector, so that of all samplers is not for it
        corrector = None if solver.adaptive else self.defaults.corrector
        if self.corrector:
            corrector = self._built(self._option("corrector", self.corrector), Corrector)
        try:
            solver.check(corrector)
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None
        return Candidate(name, solver, grid, corrector, values.get("rtol") if solver.adaptive else None)

    def _option(self, group: str, name: str) -> dict[str, Any]:
        return option(group, name, "solvers", self.defaults.folders)

    def _built(self, cfg: Mapping[str, Any], kind: type) -> Any:
        return build(cfg, self.where, self.defaults.allow, kind, run=self.defaults.run) if cfg else None


def _parsed(entry: str | Mapping[str, Any]) -> dict[str, Any]:
    """An entry as a mapping with `solver`, perhaps `grid`, `corrector` and `name`, and arguments of the solver."""
    if isinstance(entry, str):
        rest, _, grid = entry.replace("++", "pp").partition("@")
        solver, _, corrector = rest.partition("+")
        parts = {"solver": solver, "corrector": corrector, "grid": grid}
        return {"name": entry, **{k: v for k, v in parts.items() if v}}
    if not isinstance(entry.get("solver"), str):
        raise InputError(f"solvers: {entry!r} has no name of a solver; write {{solver: NAME, ...}}")
    parsed = {**entry, **_parsed(entry["solver"])}
    changes = ", ".join(f"{k}={v}" for k, v in entry.items() if k not in _PARTS)
    label = _marked(parsed["solver"], parsed.get("corrector") or "", parsed.get("grid") or "")
    return {**parsed, "name": entry.get("name") or f"{label} {changes}".strip()}


def sdes(names: Any, sigma_max: Callable[[], float], defaults: Defaults) -> dict[str, SDE | None]:
    """SDEs by their names.

    Args:
        names: one or several names or SDEs, or a mapping of names to SDEs.
        sigma_max: called for what is `measured` in a YAML file.
        defaults: where to look for names.
    """
    if isinstance(names, Mapping):
        return dict(names)
    found: dict[str, SDE | None] = {}
    for entry in names if isinstance(names, Sequence) and not isinstance(names, str) else [names]:
        if isinstance(entry, SDE):
            name = name_of("sde", entry)
            refuse(name in found, f"sdes: two of them are called {name}; give a mapping of names to SDEs")
            found[name] = entry
        else:
            cfg = option("sde", str(entry), "sdes", defaults.folders)
            found[str(entry)] = sde_of(cfg, f"sdes: {entry}", sigma_max, defaults.allow)
    return found


def sde_of(cfg: Mapping[str, Any], where: str, sigma_max: Callable[[], float], allow: Sequence[str]) -> SDE:
    """The SDE of a configuration, with a number in place of `measured`."""
    plain = {k: sigma_max() if v == "measured" else v for k, v in cfg.items()}
    sde: SDE = build(plain, where, allow, SDE)
    return sde
