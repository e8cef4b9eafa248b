"""One table over a folder of results: of comparisons, of trainings, or of samples drawn from trained runs.

Results that differ in their seed alone make one row, whose interval is over these seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde import runs
from scoresde.build import TARGET, build
from scoresde.compare.rows import RESULTS, Comparison, Row, read
from scoresde.errors import InputError

_ASIDE = ("seed", "run", "out", "logger", "allow", "device")  # what does not tell results apart


def collected(folder: Path, metrics: Mapping[str, Any], allow: Sequence[str]) -> Comparison:
    """The results in a folder and below it as one comparison.

    Args:
        folder: of a sweep, of runs, or of samples.
        metrics: for samples, which carry no figures: called as metric(samples, dataset).
        allow: packages whose classes the runs may name.

    Raises:
        InputError: there is no folder, or no result in it.
    """
    if not folder.is_dir():
        raise InputError(f"folder: there is no folder {folder} (seen from {Path.cwd()})")
    if files := sorted(folder.rglob(RESULTS)):
        return _of_comparisons(files, folder)
    summaries = {path.parent: content for path in sorted(folder.rglob(runs.SUMMARY)) if (content := _json(path))}
    trainings = {path: s for path, s in summaries.items() if "samplers" in s}
    drawn = {path: s for path, s in summaries.items() if "sampler" in s and (path / "samples.npz").is_file()}
    if drawn and folder.resolve() in (p.resolve().parent for p in drawn):
        trainings = {}  # the samples of one run
    if trainings:
        return _merged(folder, "trainings", [e for p, s in trainings.items() for e in _of_training(p, s)])
    if drawn:
        return _merged(folder, "samples", [_of_samples(p, s, metrics, allow) for p, s in drawn.items()])
    wanted = "results.json of scoresde compare, or summary.json of scoresde train or sample"
    raise InputError(f"folder: {folder} has no results in it ({wanted})")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flat(cfg: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a configuration, without what tells no results apart."""
    if isinstance(cfg, Mapping):
        for key, value in cfg.items():
            if path or key not in _ASIDE:
                yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, cfg


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each configuration that in which it differs from others, short."""
    flat = [dict(_flat(cfg)) for cfg in configs]
    keys = list(dict.fromkeys(k for f in flat for k in f))
    varied = [k for k in keys if len({repr(f.get(k)) for f in flat}) > 1]
    groups = {k.rpartition(".")[0] for k in varied if k.endswith(TARGET)}
    # the class of a group tells enough: its arguments differ with it
    varied = [k for k in varied if k.endswith(TARGET) or k.rpartition(".")[0] not in groups]
    return [", ".join(_setting(k, f[k]) for k in varied if k in f) for f in flat]


def _setting(key: str, value: Any) -> str:
    if key.endswith(TARGET):
        return str(value).rpartition(".")[2]
    return f"{key}={value}"


def _of_comparisons(files: Sequence[Path], folder: Path) -> Comparison:
    found = [read(path) for path in files]
    configs = [_json(path).get("config") or {} for path in files]
    # rows carry the names of solvers and SDEs already
    labels = _labels([{k: v for k, v in cfg.items() if k not in ("sde", "sdes", "solvers")} for cfg in configs])
    first = found[0]
    alike = all((c.problem, c.n, c.seeds) == (first.problem, first.n, first.seeds) for c in found)
    result = Comparison(
        first.problem if alike else f"{len(found)} comparisons in {folder}",
        first.n if alike else 0,
        first.seeds,
        floors=first.floors if alike else {},
        comparable=alike and all(c.floors == first.floors for c in found),
    )
    result.notes = [f"Collected from {len(found)} comparisons in {folder}.", *first.notes]
    for comparison, label in zip(found, labels, strict=True):
        for row in comparison.rows:
            row.sde = ", ".join(part for part in (row.sde, label) if part)
            result.rows.append(row)
    return result


def _of_training(
    path: Path, summary: Mapping[str, Any]
) -> list[tuple[dict[str, Any], int, Row, dict[str, float], int]]:
    """(configuration, seed, row of one seed, floors, n) of each sampler of a training."""
    cfg = runs.read_config(path)
    seed, n = int(cfg.get("seed", 0)), int(summary.get("n", 0))
    found = []
    for name, values in summary["samplers"].items():
        row = Row(name, steps=values.get("steps"), error=values.get("error"))
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        floors = _fill(row, numbers)
        own = {k: v for k, v in cfg.items() if k not in ("samplers", *_ASIDE)}
        found.append((own, seed, row, floors, n))
    return found


def _fill(row: Row, numbers: dict[str, float]) -> dict[str, float]:
    """Put the figures of one seed into a row; returns the floors."""
    row.nfe = numbers.pop("nfe", math.nan)
    row.seconds = [numbers.pop("seconds")] if "seconds" in numbers else []
    numbers.pop("steps", None)
    row.budget = round(row.nfe) if row.steps is not None and math.isfinite(row.nfe) else None
    row.figures = {k: [v] for k, v in numbers.items() if not k.endswith(("_floor", "_ratio"))}
    return {k.removesuffix("_floor"): v for k, v in numbers.items() if k.endswith("_floor")}


def _of_samples(
    path: Path, summary: Mapping[str, Any], metrics: Mapping[str, Any], allow: Sequence[str]
) -> tuple[dict[str, Any], int, Row, dict[str, float], int]:
    """The same of samples, whose figures are computed here against the data of their run."""
    run = Path(summary["run"])
    cfg = runs.read_config(run)
    dataset = build(runs.section(cfg, "data", run), "data", allow).load()
    with np.load(path / "samples.npz", allow_pickle=False) as archive:
        x = dataset.transform.encode(torch.from_numpy(archive["samples"]).float())
    sampler = summary["sampler"]
    name = str(sampler["solver"][TARGET]).rpartition(".")[2]
    steps = None if "rtol" in sampler["solver"] else int(sampler["steps"])
    row = Row(name if steps is None else f"{name} {steps}", steps=steps)
    numbers = {"nfe": float(summary["nfe"]), "seconds": float(summary["seconds"])}
    for metric in metrics.values():
        numbers |= metric(x, dataset)
    floors = _fill(row, numbers)
    own = {"run": {"model": cfg.get("model"), "sde": cfg.get("sde"), "data": cfg.get("data")}, "sampler": sampler}
    return own, int(summary["seed"]), row, floors, int(summary["n"])


def _merged(
    folder: Path, what: str, entries: Sequence[tuple[dict[str, Any], int, Row, dict[str, float], int]]
) -> Comparison:
    """Rows of the same name and label become one, with a value for each seed."""
    labels = _labels([entry[0] for entry in entries])
    groups: dict[tuple[str, str], list[tuple[int, Row, dict[str, float]]]] = {}
    for label, (_, seed, row, floors, _) in zip(labels, entries, strict=True):
        groups.setdefault((row.name, label), []).append((seed, row, floors))
    sizes, counts = {entry[4] for entry in entries}, {len(g) for g in groups.values()}
    result = Comparison(f"{what} in {folder}", min(sizes), max(counts), comparable=len(sizes) == len(counts) == 1)
    for (_, label), members in groups.items():
        members.sort(key=lambda m: m[0])
        row = members[0][1]
        row.sde = label
        for _, other, _ in members[1:]:
            row.seconds += other.seconds
            row.error = row.error or other.error
            for key, values in other.figures.items():
                row.figures.setdefault(key, []).extend(values)
        result.rows.append(row)
        if not result.floors:
            result.floors = {k: [m[2][k] for m in members if k in m[2]] for k in members[0][2]}
    result.notes = [f"Collected from {folder}; a row has {' or '.join(map(str, sorted(counts)))} seeds."]
    return result
