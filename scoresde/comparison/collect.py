"""One table over a folder of results: of comparisons, of trainings, or of samples drawn from trained runs.

Results that differ in their seed alone make one row, whose interval is over these seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde import metrics as measures
from scoresde import runs
from scoresde.build import TARGET, build
from scoresde.comparison.measure import ENDPOINT
from scoresde.comparison.output import RESULTS
from scoresde.errors import InputError
from scoresde.results import Measurement, Metric, Quantity, Results, Row, Scorer

_ASIDE = ("seed", "run", "out", "logger", "allow", "device")  # what does not tell results apart


def collected(folder: Path, metrics: Mapping[str, Any], allow: Sequence[str]) -> Results:
    """The results in a folder and below it as one table.

    Args:
        folder: of a sweep, of runs, or of samples.
        metrics: for samples, which were not measured when they were drawn.
        allow: packages whose classes the runs may name.

    Raises:
        InputError: there is no folder, or no result in it.
    """
    if not folder.is_dir():
        raise InputError(f"folder: there is no folder {folder} (seen from {Path.cwd()})")
    if files := sorted(folder.rglob(RESULTS)):
        return _of_comparisons(files, folder)
    summaries = {path.parent: content for path in sorted(folder.rglob(runs.SUMMARY)) if (content := _json(path))}
    trainings = {path: s for path, s in summaries.items() if "results" in s or "samplers" in s}
    drawn = {path: s for path, s in summaries.items() if "sampler" in s and (path / "samples.npz").is_file()}
    if drawn and folder.resolve() in (p.resolve().parent for p in drawn):
        trainings = {}  # the samples of one run
    if trainings:
        return _merged(folder, "trainings", [e for p, s in trainings.items() for e in _of_training(p, s)])
    if drawn:
        return _merged(folder, "samples", [_of_samples(p, s, metrics, allow) for p, s in drawn.items()])
    wanted = "results.json of scoresde compare, or summary.json of scoresde train or sample"
    raise InputError(f"folder: {folder} has no results in it ({wanted})")


def known_quantities() -> dict[str, Quantity]:
    """What the metrics of this library declare, for results that were written without declarations."""
    classes = [m for name in measures.__all__ if isinstance(m := getattr(measures, name), type)]
    declared = (q for metric in classes if issubclass(metric, Metric) for q in metric.quantities)
    return {**{q.key: q for q in declared}, **ENDPOINT}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flat(cfg: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a configuration, without what does not tell results apart."""
    if isinstance(cfg, Mapping):
        for key, value in cfg.items():
            if path or key not in _ASIDE:
                yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, cfg


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each configuration in what it differs from others, short."""
    flat = [dict(_flat(cfg)) for cfg in configs]
    keys = list(dict.fromkeys(k for f in flat for k in f))
    varied = [k for k in keys if len({repr(f.get(k)) for f in flat}) > 1]
    groups = {k.rpartition(".")[0] for k in varied if k.endswith(TARGET)}
    # the class of a group says enough: its arguments differ with it
    varied = [k for k in varied if k.endswith(TARGET) or k.rpartition(".")[0] not in groups]
    return [", ".join(_setting(k, f[k]) for k in varied if k in f) for f in flat]


def _setting(key: str, value: Any) -> str:
    return str(value).rpartition(".")[2] if key.endswith(TARGET) else f"{key}={value}"


def _of_comparisons(files: Sequence[Path], folder: Path) -> Results:
    known = known_quantities()
    found = [Results.read(path, known) for path in files]
    configs = [runs.upgraded(_json(path).get("config") or {}) for path in files]
    # rows have the names of solvers and SDEs already
    labels = _labels([{k: v for k, v in cfg.items() if k not in ("sde", "sdes", "solvers")} for cfg in configs])
    first = found[0]
    alike = all((c.title, c.n, c.seeds) == (first.title, first.n, first.seeds) for c in found)
    result = Results(
        first.title if alike else f"{len(found)} comparisons in {folder}",
        first.n if alike else 0,
        first.seeds,
        floors=first.floors if alike else {},
        comparable=alike and all(c.floors == first.floors for c in found),
    )
    result.notes = [f"Collected from {len(found)} comparisons in {folder}.", *first.notes]
    for comparison, label in zip(found, labels, strict=True):
        result.quantities = {**comparison.quantities, **result.quantities}
        for row in comparison.rows:
            row.setting = ", ".join(part for part in (row.setting, label) if part)
            result.rows.append(row)
    return result


@dataclass
class _Entry:
    """One sampler with one seed."""

    config: dict[str, Any]
    seed: int
    n: int
    row: Row
    found: dict[str, Measurement]
    quantities: dict[str, Quantity]


def _of_training(path: Path, summary: Mapping[str, Any]) -> list[_Entry]:
    """Each sampler of a training."""
    cfg = runs.read_config(path)
    own = {k: v for k, v in cfg.items() if k not in ("samplers", *_ASIDE)}
    seed, n, known = int(cfg.get("seed", 0)), int(summary.get("n", 0)), known_quantities()
    if "results" not in summary:
        rows = [_older(name, values, known) for name, values in summary["samplers"].items()]
        return [_Entry(own, seed, n, row, found, known) for row, found in rows]
    results = Results.of_content(summary["results"], path / runs.SUMMARY, known)
    entries = []
    for row in results.rows:
        floors = {k: v[0] for k, v in results.floors.items() if v}
        found = {k: Measurement(v[0], floors.get(k), row.halves.get(k, math.nan)) for k, v in row.values.items()}
        row.values = {}
        entries.append(_Entry(own, seed, n, row, found, results.quantities))
    return entries


def _older(name: str, values: Mapping[str, Any], known: Mapping[str, Quantity]) -> tuple[Row, dict[str, Measurement]]:
    """A sampler of a summary.json without rows, where values, floors, ratios and half-intervals lie side by side."""
    numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    row = Row(name, steps=values.get("steps"), nfe=numbers.pop("nfe", math.nan), error=values.get("error"))
    row.seconds = [numbers.pop("seconds")] if "seconds" in numbers else []
    numbers.pop("steps", None)
    found = {}
    for key in known:
        floor, half, _ = (numbers.pop(f"{key}_{end}", None) for end in ("floor", "half", "ratio"))
        if key in numbers:
            found[key] = Measurement(numbers.pop(key), floor, math.nan if half is None else half)
    return row, {**found, **{key: Measurement(value) for key, value in numbers.items()}}


def _of_samples(path: Path, summary: Mapping[str, Any], metrics: Mapping[str, Any], allow: Sequence[str]) -> _Entry:
    """Samples, which are measured here against the data of their run."""
    run = Path(summary["run"])
    cfg = runs.read_config(run)
    dataset = build(runs.section(cfg, "data", run), "data", allow, run=run).load()
    with np.load(path / "samples.npz", allow_pickle=False) as archive:
        x = dataset.transform.encode(torch.from_numpy(archive["samples"]).float())
    sampler, scorer = summary["sampler"], Scorer(metrics, dataset)
    name = str(sampler["solver"][TARGET]).rpartition(".")[2]
    steps = None if "rtol" in sampler["solver"] else int(sampler["steps"])
    row = Row(name if steps is None else f"{name} {steps}", steps=steps, nfe=float(summary["nfe"]))
    row.seconds = [float(summary["seconds"])]
    own = {"run": {"model": cfg.get("model"), "sde": cfg.get("sde"), "data": cfg.get("data")}, "sampler": sampler}
    return _Entry(own, int(summary["seed"]), int(summary["n"]), row, scorer(x), scorer.quantities)


def _merged(folder: Path, what: str, entries: Sequence[_Entry]) -> Results:
    """Rows of the same name and label become one, with a value for each seed."""
    groups: dict[tuple[str, str], list[_Entry]] = {}
    for label, entry in zip(_labels([e.config for e in entries]), entries, strict=True):
        groups.setdefault((entry.row.name, label), []).append(entry)
    sizes, counts = {entry.n for entry in entries}, {len(group) for group in groups.values()}
    result = Results(f"{what} in {folder}", min(sizes), max(counts), comparable=len(sizes) == len(counts) == 1)
    for (_, label), group in groups.items():
        group.sort(key=lambda entry: entry.seed)
        row = group[0].row
        row.setting, row.budget = label, _budget(row)
        for entry in group:
            row.seconds += entry.row.seconds if entry.row is not row else []
            row.error = row.error or entry.row.error
            result.add(row, entry.found, entry.quantities)
        result.rows.append(row)
    result.notes = [f"Collected from {folder}; a row has {' or '.join(map(str, sorted(counts)))} seeds."]
    return result


def _budget(row: Row) -> int | None:
    return round(row.nfe) if row.steps is not None and math.isfinite(row.nfe) else None
