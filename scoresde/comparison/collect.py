"""One table over a folder of results: of comparisons, of trainings, or of samples drawn from trained runs.

Results that differ in their seed alone make one row, whose interval is over these seeds.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde import metrics as measures
from scoresde import runs
from scoresde.build import TARGET, build
from scoresde.comparison.measure import ENDPOINT
from scoresde.comparison.output import RESULTS
from scoresde.errors import InputError, refuse
from scoresde.results import Measurement, Quantity, Results, Row, Scorer

# keys of a configuration that do not distinguish results, or that the names of rows hold already
_ASIDE = ("seed", "run", "out", "logger", "allow", "device", "samplers", "solvers", "sdes")
_Part = tuple[dict[str, Any], Results]  # a configuration and its results


def collected(folder: Path, metrics: Mapping[str, Any], allow: Sequence[str]) -> Results:
    """The results in a folder and below it as one table.

    Args:
        folder: of a sweep, of runs, or of samples.
        metrics: for samples, which were not measured when they were drawn.
        allow: packages whose classes the runs may name.

    Raises:
        InputError: there is no folder, or no result in it.
    """
    refuse(not folder.is_dir(), f"folder: there is no folder {folder} (seen from {Path.cwd()})")
    summaries = [(path.parent, _json(path)) for path in sorted(folder.rglob(runs.SUMMARY))]
    trained = [(path, s) for path, s in summaries if "results" in s or "samplers" in s]
    drawn = [(path, s) for path, s in summaries if "sampler" in s and (path / "samples.npz").is_file()]
    parts = (
        [_of_comparison(path) for path in sorted(folder.rglob(RESULTS))]
        or [_of_training(path, summary) for path, summary in trained]
        or [_of_samples(path, summary, metrics, allow) for path, summary in drawn]
    )
    if not parts:
        wanted = "results.json of scoresde compare, or summary.json of scoresde train or sample"
        raise InputError(f"folder: {folder} has no results in it ({wanted})")
    return _joined(parts, folder)


def known_quantities() -> dict[str, Quantity]:
    """What the metrics of this library declare, for results that were written without declarations."""
    found: dict[str, Quantity] = {}
    for name in measures.__all__:
        found |= {q.key: q for q in getattr(getattr(measures, name), "quantities", ())}
    return found | ENDPOINT


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flat(cfg: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a configuration, without what does not distinguish results."""
    if isinstance(cfg, Mapping):
        for key, value in cfg.items():
            if path or key not in _ASIDE:
                yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, cfg


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each configuration in what it differs from others, short."""
    flat = [dict(_flat(cfg)) for cfg in configs]
    keys = dict.fromkeys(k for f in flat for k in f)
    varied = [k for k in keys if len({repr(f.get(k)) for f in flat}) > 1]
    classes = {k.removesuffix(TARGET) for k in varied if k.endswith(TARGET)}
    # the class of a group says enough: its arguments differ with it
    shown = [k for k in varied if k.endswith(TARGET) or k[: k.rfind(".") + 1] not in classes]
    return [", ".join(_setting(k, f[k]) for k in shown if k in f) for f in flat]


def _setting(key: str, value: Any) -> str:
    return str(value).rpartition(".")[2] if key.endswith(TARGET) else f"{key}={value}"


def _of_comparison(path: Path) -> _Part:
    results = Results.read(path, known_quantities())
    config = runs.upgraded(_json(path).get("config") or {})
    return {k: v for k, v in config.items() if k != "sde"}, results  # the settings of the rows name it


def _of_training(path: Path, summary: Mapping[str, Any]) -> _Part:
    known, content = known_quantities(), summary.get("results")
    results = _older(summary, known) if content is None else Results.of_content(content, path / runs.SUMMARY, known)
    return runs.read_config(path), results


def _older(summary: Mapping[str, Any], known: Mapping[str, Quantity]) -> Results:
    """Of a summary.json without rows, where values, floors, ratios and half-intervals lie side by side."""
    results = Results("", int(summary.get("n", 0)), 1)
    for name, values in summary["samplers"].items():
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "steps"}
        row = Row(name, steps=values.get("steps"), nfe=numbers.pop("nfe", math.nan), error=values.get("error"))
        row.seconds = [numbers.pop("seconds")] if "seconds" in numbers else []
        found = {}
        for key in known:
            floor, half, _ = (numbers.pop(f"{key}_{end}", None) for end in ("floor", "half", "ratio"))
            if key in numbers:
                found[key] = Measurement(numbers.pop(key), floor, math.nan if half is None else half)
        results.add(row, {**found, **{key: Measurement(value) for key, value in numbers.items()}}, known)
        results.rows.append(row)
    return results


def _of_samples(path: Path, summary: Mapping[str, Any], metrics: Mapping[str, Any], allow: Sequence[str]) -> _Part:
    """Samples, which are measured here against the data of their run."""
    run = Path(summary["run"])
    cfg = runs.read_config(run)
    dataset = build(runs.section(cfg, "data", run), "data", allow, run=run).load()
    with np.load(path / "samples.npz", allow_pickle=False) as archive:
        x = dataset.transform.encode(torch.from_numpy(archive["samples"]).float())
    sampler, scorer, results = summary["sampler"], Scorer(metrics, dataset), Results("", int(summary["n"]), 1)
    name = str(sampler["solver"][TARGET]).rpartition(".")[2]
    steps = None if "rtol" in sampler["solver"] else int(sampler["steps"])
    row = Row(name if steps is None else f"{name} {steps}", steps=steps, nfe=float(summary["nfe"]))
    row.seconds = [float(summary["seconds"])]
    results.add(row, scorer(x), scorer.quantities)
    results.rows.append(row)
    own = {"of": {k: cfg.get(k) for k in ("model", "sde", "data")}, "sampler": sampler, "seed": summary["seed"]}
    return own, results


def _joined(parts: Sequence[_Part], folder: Path) -> Results:
    """All rows, with what is special in their configuration as a setting; those of several seeds become one."""
    groups: dict[str, list[_Part]] = {}
    for label, part in zip(_labels([config for config, _ in parts]), parts, strict=True):
        groups.setdefault(label, []).append(part)
    merged = {label: _merged(group) for label, group in groups.items()}
    first = next(iter(merged.values()))
    alike = all(results.basis == first.basis for results in merged.values())
    result = Results(f"results in {folder}", 0, first.seeds, comparable=alike)
    if alike:
        result.title, result.n, result.floors = first.title or result.title, first.n, first.floors
    seeds = sorted({len(row.seconds) for results in merged.values() for row in results.succeeded})
    counted = f"a row has {' or '.join(map(str, seeds))} seeds"
    result.notes = [f"Collected from {len(parts)} results in {folder}; {counted}.", *(first.notes if alike else [])]
    for label, results in merged.items():
        result.quantities = {**results.quantities, **result.quantities}
        for row in results.rows:
            row.setting = ", ".join(filter(None, (row.setting, label)))
            result.rows.append(row)
    return result


def _merged(group: Sequence[_Part]) -> Results:
    """Results that differ in their seed as one, with the values of all seeds in each row."""
    whole, *others = (r for _, r in sorted(group, key=lambda part: int(part[0].get("seed") or 0)))
    for row in whole.rows:
        row.budget = round(row.nfe) if row.budget is None and row.steps and math.isfinite(row.nfe) else row.budget
    rows = {(row.name, row.setting, row.steps): row for row in whole.rows}
    for other in others:
        whole.title, whole.seeds = whole.title if whole.title == other.title else "", whole.seeds + other.seeds
        whole.comparable &= whole.n == other.n
        _extend(whole.floors, other.floors)
        for row in other.rows:
            mine = rows.setdefault((row.name, row.setting, row.steps), row)
            if mine is not row:
                mine.seconds += row.seconds
                mine.error = mine.error or row.error
                _extend(mine.values, row.values)
    whole.rows = list(rows.values())
    return whole


def _extend(values: dict[str, list[float]], others: Mapping[str, list[float]]) -> None:
    for key, more in others.items():
        values.setdefault(key, []).extend(more)
