"""How good a run is: metrics of its samples and of its model, as one row of results."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from scoresde import figures, runs
from scoresde.build import build
from scoresde.checks import KernelStein
from scoresde.control import Guided
from scoresde.control.guidance import Label
from scoresde.data import Dataset
from scoresde.errors import InputError, refuse
from scoresde.files import of_the_disk
from scoresde.kept import PARTS
from scoresde.model import Model
from scoresde.named import name_of, option
from scoresde.parallel.shared import sharers
from scoresde.results import Metric, ModelMetric, Quantity, Results, Row, Scorer
from scoresde.results.page import page
from scoresde.results.sheet import html, judged
from scoresde.results.verdict import WARNING
from scoresde.runs import Run
from scoresde.runs.config import of_run
from scoresde.runs.guiding import guided_by
from scoresde.runs.meant import meant
from scoresde.runs.report import REPORT, write
from scoresde.runs.samples import draw, sizes
from scoresde.runs.saved import Saved
from scoresde.runs.sizes import require_batch, require_samples
from scoresde.sampling import Sampler, Samples

_SHOWN = 2000  # samples in the picture
_PICTURE = "samples.png"


@dataclass
class Evaluation:
    """An evaluation of a run: everything is checked when it is made, and nothing is written before `results`.

    Several processes share out batches of samples and of items, see `scoresde.parallel.sharing`; the first one measures
    samples and writes, and the results of the others lack these values.

    Args:
        run: the trained run.
        metrics: a `scoresde.results.Metric` is of samples, a `ModelMetric` of the model; by name.
        samples: saved ones; None draws them.
        sampler: what draws.
        n: number of samples that are drawn.
        seed: of these.
        batch_size: samples computed at once.
        label: a class, or several in turn, that samples are drawn of and compared with; None for all data.
        guidance: see `scoresde.Conditioned`.
        guided: what is measured in place of the run with this label and guidance, see `scoresde.runs.guiding`.

    Raises:
        InputError: data, samples or a model that cannot be measured so.
    """

    run: Run
    metrics: Mapping[str, Any]
    samples: Saved | None = None
    sampler: Sampler = field(default_factory=Sampler)
    n: int = 1000
    seed: int = 0
    batch_size: int = 500
    label: Label = None
    guidance: float = 1.0
    guided: Model | None = None

    def __post_init__(self) -> None:
        refuse(not self.metrics, "metrics: none is given; give one, such as metrics=[default]")
        self._of_model = {name: one for name, one in self.metrics.items() if isinstance(one, ModelMetric)}
        of_samples = {name: one for name, one in self.metrics.items() if name not in self._of_model}
        self.draws = self.samples is None and bool(of_samples)
        self.model = self._model()
        if self.draws:
            require_samples(self.n, self.run.event_shape)
            require_batch("batch_size", min(self.n, self.batch_size), self.run.event_shape, str(self.model.device))
        self.dataset = self._data()
        self._saved = None if self.samples is None else self.samples.encoded(self.dataset.transform)
        self.n = self.n if self._saved is None else len(self._saved)
        self._aim(of_samples)
        self._scorer = Scorer(of_samples, self.dataset, self.model.device) if of_samples else None
        self.quantities: dict[str, Quantity] = dict(self._scorer.quantities) if self._scorer else {}
        for name, metric in self._of_model.items():
            self._take(name, metric)
        if self._scorer:
            self._scorer.prepare(self.n)

    def _take(self, name: str, metric: ModelMetric) -> None:
        """Check a metric of the model, and take over what it measures."""
        metric.needs().check(f"metrics.{name}", self.dataset)
        steps = isinstance(self._whole_model, Guided) and not self._whole_model.method.of_score
        refuse(steps, f"metrics.{name}: the guidance_method has steps of its own, and no score; leave it out")
        metric.check(self._whole_model, self.dataset)
        for q in metric.quantities:
            refuse(q.key in self.quantities, f"metrics: {q.key} is measured by two metrics; leave one of them out")
            self.quantities[q.key] = q

    def _aim(self, of_samples: Mapping[str, Any]) -> None:
        """Say to metrics that compare samples with a score which one it is."""
        for metric in of_samples.values():
            if isinstance(metric, KernelStein):
                metric.target = meant(self.run, self.model, self.samples, self.label, self.guidance)

    def _model(self) -> Model:
        """What samples are drawn from; where there are none, metrics may give a network the classes of items."""
        if self.guided is not None:
            return self.guided
        plain = not self.draws and self.label is None and self.guidance == 1
        return self.run.model if plain else self.run.conditioned(self.run.model, self.label, self.guidance)

    @property
    def _whole_model(self) -> Model:
        """What metrics of the model measure; samples take several classes in turn, and real items do not."""
        return self.run.model if isinstance(self.label, list) else self.model

    def _data(self) -> Dataset:
        dataset = self.run.dataset()
        if self.label is None:
            return dataset
        return dataset.of_classes(self.label if isinstance(self.label, list) else [self.label])

    def results(self, folder: Path | None = None) -> Results:
        """Draw what is to be drawn and measure everything.

        Args:
            folder: in which each `ModelMetric` has a place under its name, whose parts stay there until `report`, for a
                call that goes on after a kill; None writes nothing.
        """
        where = f"run {self.run.path}, step {self.run.step}"
        results = Results(where, self.n if self._scorer else 0, 1, transform=self.dataset.transform)
        row, first = self.row, sharers().first
        if self._scorer and first:
            x = self._drawn(row) if self._saved is None else self._saved
            row.shown = x[:_SHOWN]
            results.add(row, self._scorer(x, strict=True), self.quantities)
            results.cards = self._scorer.cards
            results.floors |= self._scorer.floors(self.n)
        elif self.draws:
            deque(self._draw(row), 0)
        folder, warned = folder if first else None, list[str]()
        with _whole(folder):
            for name, metric in self._of_model.items():
                place = None if folder is None else folder / name
                found = metric(self._whole_model, self.dataset, place)
                results.add(row, found, self.quantities)
                warned += [WARNING + said for said in metric.warnings(found)]
        results.rows.append(row)
        results.notes = [*self._notes(), *warned]
        return results

    @property
    def row(self) -> Row:
        """A row without values, with the name of what is measured."""
        if self.samples is not None:
            return self.samples.row
        solver = name_of("solver", self.sampler.solver)
        if not self.draws:
            return Row("model")
        return Row(solver) if self.sampler.solver.adaptive else Row(f"{solver} {self.sampler.steps}")

    def _draw(self, row: Row) -> Iterator[Samples]:
        """The samples in batches, in model units."""
        reach = 2 * float(sizes(self.dataset.items[:10_000]).max())
        shape, size = self.dataset.event_shape, self.batch_size
        return draw(self.sampler, self.model, shape, self.n, self.seed, size, row.name, reach)

    def _drawn(self, row: Row) -> Tensor:
        """Draw the samples, on the CPU, in model units; the row then says how."""
        drawn = Samples.joined(self._draw(row))
        row.steps = None if self.sampler.solver.adaptive else self.sampler.steps
        row.nfe, row.seconds = drawn.nfe, [drawn.seconds]
        lost = int((~drawn.x.flatten(1).isfinite().all(1)).sum())
        refuse(lost > 0, f"samples: {lost} of {self.n} are not finite; try more sampler.steps or another solver")
        return drawn.x

    def _notes(self) -> Iterator[str]:
        """What a reader must know, a sentence each."""
        held, train = len(self.dataset.heldout), len(self.dataset.items)
        yield f"Real data are {held:,} held-out items, which the training never saw, and {train:,} training items."
        if self.samples is not None:
            yield f"The samples are those of {self.samples.path}{self.samples.guidance}."
        elif self.draws:
            yield f"The samples are drawn with seed {self.seed} by {self.sampler!r}."
        if self.draws and (self.label is not None or isinstance(self.model, Guided)):
            yield guided_by(self.label, self.guidance, self.model)
        if self.label is not None:
            yield f"Real data are those of label {self.label}."
        if self._scorer:
            yield (
                "Where there are several sets of real data their spread is that of values of a perfect sampler, and a "
                "value beyond their 95 % prediction interval is worse than real data."
            )

    def report(self, folder: Path, results: Results, config: Mapping[str, Any]) -> tuple[list[Path], list[str]]:
        """Write every file of the results into a folder; returns the pictures and the verdict."""
        said = judged(results)
        made = write(folder, results, {"verdict": said, "config": config, "of": of_run(self.run.config)})
        images = [*self._picture(results.rows[0], folder)]
        images += [file for name in self._of_model for file in sorted((folder / name).glob("*.png"))]
        text = page(results, said, {"Pictures": images}, config, made, f"Evaluation of {self.run.path}", html(results))
        runs.write_text(folder / REPORT, text)
        for name in self._of_model:
            shutil.rmtree(folder / name / PARTS, ignore_errors=True)
        return images, said

    def _picture(self, row: Row, folder: Path) -> Iterator[Path]:
        if row.shown is not None and bool(row.shown.isfinite().all()):
            figures.picture(
                row.shown, self.dataset.transform, folder / _PICTURE, self.dataset.heldout[:_SHOWN], row.name
            )
            yield folder / _PICTURE


@contextmanager
def _whole(folder: Path | None) -> Iterator[None]:
    """Leave nothing in a new folder if something cannot be measured; what a full disk has interrupted can go on."""
    new = folder is not None and not any(folder.glob("*"))
    try:
        yield
    except InputError as error:
        if folder is not None and new and not isinstance(error.__cause__, OSError):
            shutil.rmtree(folder, ignore_errors=True)
        raise


@of_the_disk()
def evaluate(
    run: Run | str | Path,
    metrics: str | Sequence[str | Metric | ModelMetric] | Mapping[str, Any] = "default",
    *,
    samples: str | Path | None = None,
    sampler: Sampler | None = None,
    n: int = 1000,
    seed: int = 0,
    batch_size: int = 500,
    label: Label = None,
    guidance: float = 1.0,
    folder: str | Path | None = None,
) -> Results:
    """Say how good a run is, by metrics of its samples and of its model.

        scoresde.evaluate("runs/RUN", ["default", "distances"], n=5000)

    Args:
        run: from `scoresde.load`, or its folder.
        metrics: names of conf/metrics, or objects; or a mapping of names to objects.
        samples: a folder of `scoresde sample`, or a .npz or .npy file in data units; None draws them.
        sampler: what draws; None for 50 steps of the default solver.
        n: number of samples that are drawn.
        seed: of these.
        batch_size: samples computed at once.
        label: a class, or several in turn, that samples are drawn of and compared with; None takes that of `samples`.
        guidance: see `scoresde.Conditioned`.
        folder: where report.html, results.json, results.csv and pictures are written, if given.

    Raises:
        InputError: one line that names what cannot be measured so.
    """
    loaded = run if isinstance(run, Run) else runs.load(run)
    saved = None if samples is None else Saved.read(Path(samples))
    label = saved.label if label is None and saved is not None else label
    what = Evaluation(loaded, _by_name(metrics), saved, sampler or Sampler(), n, seed, batch_size, label, guidance)
    out = None if folder is None else Path(folder)
    results = what.results(out)
    if out is not None and sharers().first:
        what.report(out, results, {})
    return results


def _by_name(metrics: Any) -> dict[str, Any]:
    """Metrics by name, from names of conf/metrics and objects."""
    if isinstance(metrics, Mapping):
        return dict(metrics)
    found: dict[str, Any] = {}
    for one in [metrics] if isinstance(metrics, str) else metrics:
        own = build(option("metrics", one), "metrics") if isinstance(one, str) else {type(one).__name__: one}
        twice = next((name for name in own if name in found), None)
        refuse(twice is not None, f"metrics: {twice} is there twice; leave one out, or give a mapping of names")
        found |= own
    return found
