"""The jobs of a sweep, or the runs in any folder, with what they were given and what they reached. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoresde.build import TARGET
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import read_json
from scoresde.plain import from_yaml
from scoresde.results import Quantity, Results, Row
from scoresde.runs.config import leaves, read_config
from scoresde.runs.differences import differing
from scoresde.runs.folder import RESULTS, SUMMARY
from scoresde.runs.listing import entries
from scoresde.sweeps import record

VALUE, SEED = "value", "seed"
_FORMER = "best_ratio"  # as older versions called the value
# keys of a configuration, and of a summary, that are no settings and no metrics
_ASIDE = ("run", "out", "name", "logger", "allow", "device")
_NO_METRICS = ("results", "versions", "n", "seed", "best", _FORMER, "sampler", "guidance", "strength", "held_out")
_STEP = "checkpoint_step"  # of the run, or after the name of a further one
_KINDS = ("run", "comparison")


@dataclass
class Collected:
    """One job.

    Attributes:
        folder: its run or result, seen from the folder of all; empty if there is none.
        settings: the values of the keys in which it differs from others; the seed among them.
        state: finished, running, stopped, failed or broken.
        reason: why it is not finished.
        values: of each metric, by its key: `value`, which a sweeper minimises; quantities of the best sampler; other
            numbers of the summary.
        quantities: the declarations of the quantities among them.
    """

    folder: str
    settings: dict[str, Any]
    state: str = "finished"
    reason: str = ""
    values: dict[str, float] = field(default_factory=dict)
    quantities: list[Quantity] = field(default_factory=list)

    @property
    def words(self) -> str:
        """Its settings in one line, or its folder."""
        return " ".join(f"{key}={value}" for key, value in self.settings.items()) or self.folder


def collected(folder: Path) -> list[Collected]:
    """The jobs of a sweep; of a folder without records of a sweep the runs in it, or else the comparisons.

    Raises:
        InputError: there is no such folder, there is nothing in it, or a record is damaged.
    """
    refuse(not folder.is_dir(), f"folder: there is no folder {folder} (seen from {Path.cwd()}); give that of a sweep")
    found = _recorded(folder) if record.is_sweep(folder) else _unrecorded(folder)
    refuse(not found, f"folder: {folder} has no jobs of a sweep in it, and no runs; give the folder of a sweep")
    return found


def _recorded(sweep: Path) -> list[Collected]:
    found = []
    for job in record.jobs(sweep):
        pairs = (setting.lstrip("+").partition("=") for setting in job.overrides)
        own = Collected(job.folder or "", {k: _plain(v) for k, _, v in pairs}, job.state, job.reason or "")
        if job.state == "finished":
            own.values = {} if job.value is None else {VALUE: job.value}
            _measure(own, sweep)
        found.append(own)
    return found


def _plain(text: str) -> Any:
    """A value as it was typed."""
    try:
        value = from_yaml(text)
    except Exception:  # it need not be YAML
        value = text
    return value if isinstance(value, str | int | float | bool) else text


def _unrecorded(folder: Path) -> list[Collected]:
    listed = [entry for entry in entries(folder) if entry.state != "empty"]
    kind = next((kind for kind in _KINDS if any(entry.kind == kind for entry in listed)), None)
    found, configs = [], []
    for entry in sorted((entry for entry in listed if entry.kind == kind), key=lambda entry: str(entry.path)):
        own = Collected(str(entry.path.relative_to(folder)), {}, entry.state or "finished")
        own.reason = "" if own.state == "finished" else entry.about
        configs.append(_config(own, entry.path))
        if own.state == "finished":
            _measure(own, folder)
        found.append(own)
    for own, settings in zip(found, differing(configs, _ASIDE), strict=True):
        own.settings = {key.removesuffix(f".{TARGET}"): value for key, value in settings.items()}
    return found


def _config(own: Collected, path: Path) -> Mapping[str, Any]:
    try:
        cfg = read_config(path) if not (path / RESULTS).is_file() else read_json(path / RESULTS).get("config")
        return cfg if isinstance(cfg, Mapping) else {}
    except InputError as error:
        own.state, own.reason = "broken", one_line(error)
        return {}


def _measure(own: Collected, root: Path) -> None:
    """Add the metrics of a finished job; one whose files are damaged is broken."""
    place = root / own.folder
    file = next((file for name in (SUMMARY, RESULTS) if (file := place / name).is_file()), None)
    if not own.folder or file is None:
        return
    try:
        content = read_json(file)
        measured = content if file.name == RESULTS else content.get("results")
        if file.name == SUMMARY:
            numbers = leaves({key: v for key, v in content.items() if not _is_asked(key, v)})
            own.values |= {key: float(v) for key, v in numbers if _is_number(v)}
            value: Any = content.get(_FORMER)
            own.values |= {VALUE: float(value)} if VALUE not in own.values and _is_number(value) else {}
        if measured is not None:
            _add_results(own, Results.of_content(measured, file))
    except InputError as error:
        own.state, own.reason, own.values = "broken", one_line(error), {}


def _is_asked(key: str, value: Any) -> bool:
    """Whether it is a part of what was asked for in a summary, such as the description of an object."""
    return key in _NO_METRICS or key.endswith(_STEP) or (isinstance(value, Mapping) and TARGET in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _add_results(own: Collected, results: Results) -> None:
    """The quantities of the sampler that is best by the first one by which samplers are ranked."""
    rows = results.succeeded
    first = next(iter(results.ranking), None)
    if first is not None:
        rows = sorted((row for row in rows if row.finite(first.key)), key=lambda row: _rank(row, first))
    if rows:
        own.quantities = list(dict.fromkeys([*results.ranking, *results.measured]))
        own.values |= {q.key: rows[0].interval(q.key).mean for q in own.quantities if rows[0].finite(q.key)}
    if VALUE not in own.values and (value := results.objective()) is not None and math.isfinite(value):
        own.values[VALUE] = value


def _rank(row: Row, quantity: Quantity) -> float:
    return quantity.sign * row.interval(quantity.key).mean
