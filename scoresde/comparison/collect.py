"""One table over a folder of results: of comparisons, of trainings, or of samples drawn from trained runs.

Results that differ in their seed alone make one row, whose interval is over these seeds. The same configuration and
seed count once: a second run of a job gives the same numbers, not further evidence.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from scoresde import metrics as measures
from scoresde import runs
from scoresde.build import TARGET
from scoresde.comparison.measure import ENDPOINT
from scoresde.constraints import checked
from scoresde.errors import InputError, refuse
from scoresde.files import read_json
from scoresde.results import Measurement, Quantity, Results, Row, Scorer
from scoresde.runs.config import of_run
from scoresde.runs.differences import differing
from scoresde.runs.folder import RESULTS
from scoresde.runs.report import EVALUATIONS
from scoresde.runs.saved import FILE, Saved

# keys of the summary of samples that distinguish them
_DRAWN = ("checkpoint_step", "weights", "n", "label", "guidance")
# keys of a configuration that do not distinguish results, or that the names of rows hold already
_ASIDE = ("seed", "run", "out", "logger", "allow", "device", "devices", "samplers", "solvers", "sdes")


class _Part(NamedTuple):
    """A configuration, its results, and what tells their repetitions apart."""

    config: dict[str, Any]
    results: Results
    seeds: list[Any]


def collected(folder: Path, metrics: Mapping[str, Any], allow: Sequence[str], device: str = "cpu") -> Results:
    """The results in a folder and below it as one table.

    Args:
        folder: of a sweep, of runs, or of samples.
        metrics: for samples, which were not measured when they were drawn.
        allow: packages whose classes the runs may name.
        device: where networks of metrics compute.

    Raises:
        InputError: there is no folder, or no result in it.
    """
    refuse(not folder.is_dir(), f"folder: there is no folder {folder} (seen from {Path.cwd()})")
    if not (parts := list(_comparisons(folder))):
        summaries = list(_summaries(folder))
        parts = [*_trainings(summaries)] or [*_samples(summaries, metrics, allow, device)]
    found = _joined(parts, folder) if parts else None
    wanted = "results.json of scoresde compare, or summary.json of scoresde train or sample"
    if found is None or not found.rows:
        raise InputError(f"folder: {folder} has no results in it ({wanted})")
    return found


def known_quantities() -> dict[str, Quantity]:
    """What the metrics of this library declare, for results that were written without declarations."""
    found: dict[str, Quantity] = {}
    for name in measures.__all__:
        found |= {q.key: q for q in getattr(getattr(measures, name), "quantities", ())}
    return found | ENDPOINT


def _summaries(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files summary.json that can be read; a line on stderr names the others."""
    for path in sorted(folder.rglob(runs.SUMMARY)):
        try:
            content = read_json(path, "folder")
        except InputError as error:
            print(f"{error}; it is left out", file=sys.stderr)
        else:
            yield path, content


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each configuration in what it differs from others, short."""
    found = differing(configs, _ASIDE)
    return [", ".join(str(v) if k.endswith(TARGET) else f"{k}={v}" for k, v in own.items()) for own in found]


def _comparisons(folder: Path) -> Iterator[_Part]:
    for path in sorted(folder.rglob(RESULTS)):
        if EVALUATIONS in path.relative_to(folder).parts:  # of a run among others, which has results of its own
            continue
        content = read_json(path, "folder")
        results = Results.of_content(content, path, known_quantities())
        config = runs.upgraded(checked(content.get("config") or {}, f"folder: {path}: config", dict[str, Any]))
        config.pop("sde", None)  # the settings of the rows name it
        config |= {"of": content["of"]} if "of" in content else {}
        seed = _seed(config)
        yield _Part(config, results, [(str(config.get("run")), k) for k in range(seed, seed + results.seeds)])


def _trainings(summaries: Iterable[tuple[Path, dict[str, Any]]]) -> Iterator[_Part]:
    known = known_quantities()
    for path, summary in summaries:
        if "results" in summary:
            results = Results.of_content(summary["results"], path, known)
        elif "samplers" in summary:
            results = _older(summary, path, known)
        else:
            continue
        config = runs.read_config(path.parent)
        yield _Part(config, results, [_seed(config)])


def _older(summary: Mapping[str, Any], path: Path, known: Mapping[str, Quantity]) -> Results:
    """Of a summary.json without rows, where values, floors, ratios and half-intervals lie side by side."""
    where = f"folder: {path}"
    results = Results("", checked(summary.get("n", 0), f"{where}: n", int), 1)
    for name, stored in checked(summary["samplers"], f"{where}: samplers", dict[str, dict[str, Any]]).items():
        values = {k: float(v) for k, v in stored.items() if isinstance(v, int | float) and k != "steps"}
        said = (("steps", int | None), ("error", str | None))
        own = {key: checked(stored.get(key), f"{where}: {key}", kind) for key, kind in said}
        row = Row(name, nfe=values.pop("nfe", math.nan), **own)
        row.seconds = [values.pop("seconds", math.nan)]
        found = {
            key: Measurement(value, values.get(f"{key}_floor"), values.get(f"{key}_half", math.nan))
            for key, value in values.items()
            if not key.endswith(("_floor", "_half", "_ratio"))
        }
        results.add(row, found, known)
        results.rows.append(row)
    return results


def _samples(
    summaries: Iterable[tuple[Path, dict[str, Any]]], metrics: Mapping[str, Any], allow: Sequence[str], device: str
) -> Iterator[_Part]:
    """Samples, which are measured here against the data of their run."""
    for path, summary in summaries:
        file = path.with_name(FILE)
        if "sampler" in summary and file.is_file():
            yield _of_samples(file, summary, metrics, allow, device)


def _of_samples(
    file: Path, summary: Mapping[str, Any], metrics: Mapping[str, Any], allow: Sequence[str], device: str
) -> _Part:
    saved = Saved.read(file.parent, "folder")
    run = Path(saved.summary["run"])
    cfg = runs.read_config(run)
    dataset = runs.stored_data(cfg, run, allow).load()
    scorer, results, row = Scorer(metrics, dataset, device), Results("", len(saved.data), 1), saved.row
    try:
        results.cards = scorer.cards
        results.add(row, scorer(saved.encoded(dataset.transform)), scorer.quantities)
    except InputError as error:  # the others are measured
        row.failed(error)
    results.rows.append(row)
    config = {"of": of_run(cfg), "sampler": summary["sampler"]}
    config |= {key: summary.get(key) for key in _DRAWN}
    return _Part(config, results, [(_seed(cfg), summary["seed"])])


def _joined(parts: Sequence[_Part], folder: Path) -> Results:
    """All rows, with what is special in their configuration as a setting; those of several seeds become one."""
    merged: dict[str, Results] = {}
    labels = _labels([part.config for part in parts])
    ordered = sorted(zip(labels, parts, strict=True), key=lambda item: item[1].seeds)
    repeated = _count_once(ordered)
    for label, (_, results, _) in ordered:
        if merged.setdefault(label, results) is not results:
            merged[label].extend(results)
    first, *others = (merged[label] for label in dict.fromkeys(labels))
    for label, results in merged.items():
        first.join_cards(results, (labels[0] or first.title, label or results.title))
    result = Results(f"results in {folder}", 0, first.seeds, comparable=False, cards=first.cards)
    if all(results.basis == first.basis for results in others):
        result = replace(first, title=first.title or result.title, rows=[], quantities={})
    seeds = sorted({len(row.seconds) for results in merged.values() for row in results.succeeded})
    counted = f"a row has {' or '.join(map(str, seeds))} seeds"
    twice = f"{repeated} repetitions of a configuration and seed that is there already are not counted."
    said = [f"Collected from {len(parts)} results in {folder}; {counted}.", *[twice] * (repeated > 0)]
    result.notes = [*said, *result.notes]
    for label in dict.fromkeys(labels):
        result.quantities = merged[label].quantities | result.quantities
        result.rows += [_named(row, label) for row in merged[label].rows]
    return result


def _count_once(parts: Sequence[tuple[str, _Part]]) -> int:
    """Leave out of the rows and floors what an earlier part has of the same label and seed; returns how much."""
    seen: set[Any] = set()
    repeated = 0
    for label, (_, results, seeds) in parts:
        for row in results.succeeded:
            kept = _unseen(seen, _owner(label, row), seeds)
            repeated += len(seeds) - len(kept)
            if not kept:
                results.rows.remove(row)
            row.seconds, row.values = _some(row.seconds, kept, seeds), _each(row.values, kept, seeds)
        kept = _unseen(seen, label, seeds)
        results.seeds, results.floors = len(kept), _each(results.floors, kept, seeds)
        results.targets = {name: _each(own, kept, seeds) for name, own in results.targets.items()}
    for label, (_, results, seeds) in parts:
        for row in results.failed:  # a job that was run again has not failed
            if not _unseen(seen, _owner(label, row), seeds):
                results.rows.remove(row)
    return repeated


def _owner(label: str, row: Row) -> tuple[Any, ...]:
    return label, row.name, row.setting, row.budget, row.steps, row.target


def _unseen(seen: set[Any], owner: Any, seeds: Sequence[Any]) -> list[int]:
    """Which of the seeds of an owner are new; they are noted."""
    found = [i for i, seed in enumerate(seeds) if (owner, seed) not in seen]
    seen.update((owner, seed) for seed in seeds)
    return found


def _some(values: list[float], kept: Sequence[int], seeds: Sequence[Any]) -> list[float]:
    return values if len(kept) == len(seeds) else [values[i] for i in kept if i < len(values)]


def _each(values: Mapping[str, list[float]], kept: Sequence[int], seeds: Sequence[Any]) -> dict[str, list[float]]:
    return {key: _some(own, kept, seeds) for key, own in values.items()}


def _seed(config: Mapping[str, Any]) -> int:
    seed: int = checked(config.get("seed") or 0, "folder: seed", int)
    return seed


def _named(row: Row, label: str) -> Row:
    """A row with the label in its setting, and with a budget, so that rows of as many evaluations are compared."""
    row.setting = ", ".join(filter(None, (row.setting, label)))
    if row.budget is None and row.steps and math.isfinite(row.nfe):
        row.budget = round(row.nfe)
    return row
