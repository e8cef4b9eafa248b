"""What a folder holds: runs with their states, and comparisons, samples and tuned grids. Imports no torch."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scoresde.constraints import NonNegativeInt, checked
from scoresde.errors import InputError, one_line, refuse
from scoresde.files import read_json
from scoresde.loggers import METRICS, step_of
from scoresde.named import name_of
from scoresde.results import Quantity, Results
from scoresde.runs.config import CLASSIFIES, CONVERTED, get, read_config, section
from scoresde.runs.folder import CONFIG, RESULTS, SUMMARY, check_inside, in_use
from scoresde.runs.report import EVALUATIONS
from scoresde.training import checkpoint as checkpoints

Kind = Literal["run", "comparison", "evaluation", "samples", "grid"]
_OF_A_RUN = {CONFIG, SUMMARY, METRICS, "checkpoints"}
_DEEPEST = 3  # of folders within folders; the runs of a sweep lie in the second
_TAIL = 4096  # bytes of metrics.jsonl in which the newest step stands
_ODD = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


@dataclass
class Entry:
    """A run or another result, as far as it can be read.

    Attributes:
        path: its folder, or its file.
        kind: what it is.
        when: of its last change, in seconds since 1970.
        state: of a run: finished, stopped, running, converted, broken or empty.
        done: training steps.
        steps: how many there are to be.
        data, sde, model: names of options, or of files and classes of the user's own.
        best: the value of the best sampler, and what real data reach, of the quantities that rank samplers.
        about: what is wrong with it; of what is no run, what it holds.
    """

    path: Path
    kind: Kind
    when: float = 0.0
    state: str = ""
    done: int | None = None
    steps: int | None = None
    data: str = ""
    sde: str = ""
    model: str = ""
    best: dict[Quantity, tuple[float, float | None]] = field(default_factory=dict)
    about: str = ""


def entries(folder: Path) -> list[Entry]:
    """Everything in a folder, the newest first. What cannot be read says so; no class that it names is built.

    Raises:
        InputError: there is no such folder.
    """
    missing = f"there is no folder {folder} (seen from {Path.cwd()}); scoresde train makes one"
    refuse(not folder.is_dir(), f"folder: {missing}")
    return sorted((entry_of(path, kind) for path, kind in _places(folder)), key=lambda entry: -entry.when)


def _places(folder: Path, depth: int = 0) -> Iterator[tuple[Path, Kind]]:
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:  # which the entry will say
        names = {SUMMARY}
    if RESULTS in names:
        yield folder, "comparison"
    elif names & {"samples.npz", "parts"}:
        yield folder, "samples"
    elif names & _OF_A_RUN or (names <= {".lock"} and depth == 1) or names == {".lock"}:
        yield folder, "run"
        yield from _inside(folder)
    elif depth < _DEEPEST:
        inner = (folder / name for name in sorted(names) if not name.startswith("."))
        for path in filter(Path.is_dir, inner):  # a link to a run is listed, and no other one is followed
            yield from _places(path, _DEEPEST if path.is_symlink() else depth + 1)


def _inside(run: Path) -> Iterator[tuple[Path, Kind]]:
    with suppress(InputError):  # which the entry of the run will say
        check_inside(run)
        yield from ((path, "grid") for path in run.glob("tuned/steps-*.json"))
        yield from ((file.parent, "evaluation") for file in run.glob(f"{EVALUATIONS}/*/{RESULTS}"))
        yield from ((path, "samples") for path in run.glob("samples/*") if path.is_dir())


def entry_of(path: Path, kind: Kind = "run") -> Entry:
    """What one folder holds; what cannot be read says so."""
    entry = Entry(path, kind)
    try:
        files = [file for name in (*_OF_A_RUN, RESULTS) if (file := path / name).exists()] or [path]
        entry.when = max(file.stat().st_mtime for file in files)
        check_inside(path)
        _READ[kind](entry)
    except _ODD as error:
        said = one_line(error)
        said = said if isinstance(error, InputError) else f"not as scoresde wrote it ({type(error).__name__}: {said})"
        entry.about = said.removeprefix("run: ").replace(f"{path.resolve()}/", "").replace(f"{path}/", "")
        entry.state = entry.state if entry.state == "running" else "broken"
    return entry


def _read_run(entry: Entry) -> None:
    path = entry.path
    entry.state = "running" if in_use(path) else "stopped"
    if all(file.name == ".lock" for file in path.iterdir()):
        entry.state = entry.state if entry.state == "running" else "empty"
        return
    refuse(not (path / CONFIG).is_file(), f"has no {CONFIG}")
    cfg, saved, converted = read_config(path), checkpoints.saved_steps(path), (path / CONVERTED).is_file()
    for key in ("data", "sde", "model"):
        part = cfg.get(key) if converted else section(cfg, key, path)
        setattr(entry, key, _named(key, part))
    entry.model = "classifier" if CLASSIFIES in cfg else entry.model
    entry.done = max([*saved, _logged(path) if entry.state == "running" else 0])
    if converted:
        entry.state = "converted"
    else:
        entry.steps = checked(get(cfg, "trainer.steps"), f"{CONFIG}: trainer.steps", NonNegativeInt)
    if (path / SUMMARY).is_file():
        summary = read_json(path / SUMMARY)
        entry.best = _best(Results.of_content(summary["results"], SUMMARY)) if "results" in summary else {}
        entry.state = "finished"
    if saved and (damage := checkpoints.damage(newest := checkpoints.at_step(path, saved[-1]), digests=False)):
        raise InputError(f"checkpoint {newest.name} is damaged: {damage}")


def _named(key: str, part: Any) -> str:
    """The name of a part of a configuration; of files that of the file."""
    if not isinstance(part, Mapping):
        return ""
    return Path(file).name if isinstance(file := part.get("path"), str) else name_of(key, part)


def _logged(run: Path) -> int:
    """The newest step in metrics.jsonl."""
    return int(max(filter(math.isfinite, map(step_of, last_lines(run))), default=0))


def last_lines(run: Path) -> list[str]:
    """The newest lines of metrics.jsonl; the first may lack its begin."""
    file = run / METRICS
    if not file.is_file():
        return []
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - _TAIL))
        return stream.read().decode(errors="replace").splitlines()


def _best(results: Results) -> dict[Quantity, tuple[float, float | None]]:
    found: dict[Quantity, tuple[float, float | None]] = {}
    for q in results.ranking:
        means = [row.interval(q.key).mean for row in results.rows if row.finite(q.key)]
        floor = results.floor(q.key)
        found |= {q: (q.sign * min(q.sign * mean for mean in means), floor and floor.mean)} if means else {}
    return found


def _read_comparison(entry: Entry) -> None:
    content = read_json(entry.path / RESULTS)
    results = Results.of_content(content, RESULTS)
    said = [*content.get("verdict", ["not finished"]), ""][0]
    entry.about = f"{results.title}: {said}"


def _read_samples(entry: Entry) -> None:
    refuse(not (entry.path / SUMMARY).is_file(), f"not finished, has no {SUMMARY}")
    summary = read_json(entry.path / SUMMARY)
    solver = name_of("solver", summary["sampler"]["solver"])
    entry.about = f"{int(summary['n']):,} samples of {solver}, {summary['nfe']:.0f} evaluations each"


def _read_grid(entry: Entry) -> None:
    report = read_json(entry.path)["report"]
    entry.about = f"mean endpoint error {report['after']['mean']:.3g}, untuned {report['before']['mean']:.3g}"


_READ = {
    "run": _read_run, "comparison": _read_comparison, "evaluation": _read_comparison, "samples": _read_samples,
    "grid": _read_grid,
}  # fmt: skip
