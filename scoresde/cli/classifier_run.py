"""The work of `scoresde classifier`: what it takes from the run, and what is printed."""

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

from scoresde import runs
from scoresde.cli.course import Course, Start
from scoresde.cli.settings import ClassifierSettings
from scoresde.cli.sweep_job import sweeping
from scoresde.control import NetworkClassifier
from scoresde.errors import refuse
from scoresde.files import read_json
from scoresde.results.table import aligned
from scoresde.runs import Run
from scoresde.runs.config import get
from scoresde.training import FitResult
from scoresde.workflows.classifier import KINDS, ClassifierJob, Scores, prepare
from scoresde.workflows.job import check_parts
from scoresde.workflows.recorded import Recorded

_TAKEN = ("sde", "data")  # of the run


class ClassifierTraining(Course[ClassifierSettings, Scores]):
    """A call of `scoresde classifier`; see `Course`."""

    command, key, aside = "classifier", "out", ("run", "out", "allow")

    @cached_property
    def run(self) -> Run:
        """The run for whose data the classifier is."""
        return runs.load(self.settings.run, device="cpu", allow=self.settings.packages)

    def within(self, folder: Path) -> dict[str, Any]:
        return {"out": str(folder)}

    def begin(self) -> dict[str, Any]:
        return self.cfg

    def check(self, stored: dict[str, Any], folder: Path) -> None:
        other = f"out: {folder} is the folder of a run, whose files would be replaced; give another folder"
        refuse(runs.CLASSIFIES not in stored, other)
        for key in sorted(self.cfg.keys() - {"run", "out"} | {*_TAKEN}):
            runs.section(stored, key, folder)
        for key in _TAKEN:
            wanted = f"{folder} was trained for one with another {key}; give that run, or another folder with out="
            refuse(stored[key] != self.run.config.get(key), f"run: {self.run.path} does not fit, {wanted}")

    def check_merged(self, merged: dict[str, Any], folder: Path, allow: list[str]) -> None:
        check_parts(merged, allow, KINDS)

    def prepare(self, start: Start) -> ClassifierJob:
        return prepare(start.cfg, self.run, self.settings.packages, start.checkpoint)

    def name(self, cfg: dict[str, Any]) -> tuple[str, str | None]:
        return "classifier", None

    def meaning(self, job: Recorded[NetworkClassifier, Scores]) -> str:
        return f"{job.model.classes_of(job.dataset.event_shape)} classes"

    def again(self, run: Path) -> str:
        return f"scoresde classifier {runs.setting(self.run.path)} {self._typed(run, 'out')}"

    def objective(self, result: FitResult[NetworkClassifier], results: Scores) -> float | None:
        return None if result.best is None else result.best.value

    def closing(self, run: Path, result: FitResult[NetworkClassifier], results: Scores) -> None:
        rows = [(f"{r:.3g}", f"{right:.1%}", f"{entropy:.3f}") for r, (right, entropy) in results.items()]
        if sweeping():
            print(", ".join(f"{right} at {r}" for r, right, _ in rows), flush=True)
            return
        table = "\n".join(aligned([("sigma / alpha", "right", "cross-entropy"), *rows]))
        print(f"\ntrained to step {result.step} in {result.seconds:.0f} s; on held-out items with noise:\n\n{table}\n")
        print(f"metrics   {run / runs.SUMMARY}\n{self._next(run)}", flush=True)

    def complete(self, run: Path, steps: int) -> float | None:
        print(f"{run} is complete, with all of its {steps} steps")
        if not sweeping():
            print(f"further   {self.again(run)} trainer.steps={2 * steps}\n{self._next(run)}")
        best = get(read_json(run / runs.SUMMARY, "out"), "best_checkpoint.value")
        return best if isinstance(best, float) else None

    def _next(self, run: Path) -> str:
        words = [runs.setting(self.run.path), self._typed(run, "classifier"), "label=0", "guidance=2"]
        return f"next      scoresde sample {' '.join(words)}"

    def _typed(self, run: Path, key: str) -> str:
        (word,) = shlex.split(runs.setting(run))
        return shlex.quote(word.replace("run=", f"{key}=", 1))
