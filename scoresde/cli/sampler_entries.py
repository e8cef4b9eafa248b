"""The samplers and SDEs that a comparison names, from the YAML files of their groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from scoresde import named
from scoresde.build import build, did_you_mean
from scoresde.comparison import Contestant
from scoresde.errors import InputError
from scoresde.sampling import Corrector, Grid, Solver
from scoresde.sde import SDE

_TOLERANCES = ("rtol", "atol", "tolerance")


def contestants(
    entries: Any, tolerances: Sequence[float], sampler: Mapping[str, Any], allow: Sequence[str], run: Path | None = None
) -> list[Contestant]:
    """The samplers of `solvers`: SOLVER[+CORRECTOR][@GRID], or mappings with `solver` and changes of its arguments.

    Args:
        entries: as configured.
        tolerances: an adaptive solver whose entry gives none has one sampler for each.
        sampler: the grid and the corrector of entries that name none.
        allow: packages of the user's own.
        run: the folder of a run, for what was tuned on it.

    Raises:
        InputError: an entry or a name that is not known, with the nearest right one.
    """
    found: list[Contestant] = []
    for entry in [entries] if isinstance(entries, str | Mapping) else entries or []:
        found += _of_entry(_parsed(entry), tolerances, sampler, allow, run)
    return found


def _parsed(entry: Any) -> dict[str, Any]:
    """An entry as a mapping with `solver`, perhaps `grid`, `corrector` and `name`, and arguments of the solver."""
    if isinstance(entry, str):
        rest, _, grid = entry.partition("@")
        solver, _, corrector = rest.partition("+")
        parts = {"solver": solver, "corrector": corrector, "grid": grid}
        return {"name": entry, **{k: v for k, v in parts.items() if v}}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("solver"), str):
        raise InputError(f"solvers: {entry!r} is no sampler; write SOLVER[+CORRECTOR][@GRID], or {{solver: NAME, ...}}")
    parsed = {**entry, **_parsed(entry["solver"])}
    changes = ", ".join(f"{k}={v}" for k, v in entry.items() if k not in ("solver", "name", "grid", "corrector"))
    named = parsed["solver"] + (f"+{parsed['corrector']}" if "corrector" in parsed else "")
    named += f"@{parsed['grid']}" if "grid" in parsed else ""
    return {**parsed, "name": entry.get("name") or f"{named} {changes}".strip()}


def _of_entry(
    entry: dict[str, Any],
    tolerances: Sequence[float],
    sampler: Mapping[str, Any],
    allow: Sequence[str],
    run: Path | None,
) -> list[Contestant]:
    where = f"solvers: {entry['name']}"
    plain = option("solver", entry["solver"], "solvers")
    own = {k: v for k, v in entry.items() if k not in ("name", "solver", "grid", "corrector")}
    for key in own:
        if key not in plain:
            raise InputError(f"{where}: {entry['solver']} has no {key}{did_you_mean(key, plain)}")
    grid = option("grid", entry["grid"], "solvers") if "grid" in entry else sampler.get("grid")
    corrector = option("corrector", entry["corrector"], "solvers") if "corrector" in entry else sampler.get("corrector")

    def contestant(name: str, **changes: Any) -> Contestant:
        solver: Solver = build({**plain, **own, **changes}, where, allow, Solver, run=run)
        mending = build(corrector, where, allow, Corrector) if corrector else None
        # a black-box solver and a corrector do not go together: with the corrector of all it simply has none
        usable = mending if "corrector" in entry or not solver.adaptive else None
        try:
            solver.check(usable)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        tolerance = own.get("rtol", changes.get("rtol")) if solver.adaptive else None
        return Contestant(name, solver, build(grid, where, allow, Grid, run=run) if grid else None, usable, tolerance)

    loose = [k for k in _TOLERANCES if k in plain and k not in own]
    if not contestant(entry["name"]).solver.adaptive or not loose or len(loose) < sum(k in plain for k in _TOLERANCES):
        return [contestant(entry["name"])]
    return [contestant(f"{entry['name']} {t:g}", **dict.fromkeys(loose, float(t))) for t in tolerances]


def sdes(names: Any, chosen: Any, largest: Any, allow: Sequence[str]) -> dict[str, SDE | None]:
    """The SDEs of `sdes`, or that of `sde`; {"": None} if neither is given.

    Args:
        names: of the group sde.
        chosen: a configuration.
        largest: called for what stands as `measured`.
        allow: packages of the user's own.
    """
    if names and chosen:
        raise InputError("sdes: given together with sde; give one of them")
    if not names:
        label = HydraConfig.get().runtime.choices.get("sde") or "sde"
        return {str(label): _sde(chosen, "sde", largest, allow)} if chosen else {"": None}
    several = [names] if isinstance(names, str) else names
    return {str(name): _sde(option("sde", name, "sdes"), f"sdes: {name}", largest, allow) for name in several}


def _sde(cfg: Any, where: str, largest: Any, allow: Sequence[str]) -> SDE:
    plain = {k: largest() if v == "measured" else v for k, v in cfg.items()}
    sde: SDE = build(plain, where, allow, SDE)
    return sde


def option(group: str, name: Any, key: str) -> dict[str, Any]:
    """The YAML file of an option of a group, in any folder that Hydra searches; `key` is where it was named."""
    found = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.path]
    return named.option(group, str(name), key, reversed(found))
