"""The work of `scoresde train`: what it begins with, and what is printed."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from scoresde import runs
from scoresde.cli.course import Course, Start, typed_groups
from scoresde.cli.jobs import chosen, overrides
from scoresde.cli.settings import TrainSettings
from scoresde.cli.sweep_job import sweeping
from scoresde.files import read_json
from scoresde.model import NetworkModel
from scoresde.results import Results
from scoresde.results.table import explained
from scoresde.training import FitResult
from scoresde.workflows import initial
from scoresde.workflows.job import Job, check_types, prepare
from scoresde.workflows.recorded import Recorded


class Training(Course[TrainSettings, Results]):
    """A call of `scoresde train`; see `Course`."""

    command, key, aside = "train", "run", ("run", "allow")

    def within(self, folder: Path) -> dict[str, Any]:
        return {"run": str(folder), "name": None}

    def begin(self) -> dict[str, Any]:
        return initial.taken_over(self.cfg, overrides())

    def check(self, stored: dict[str, Any], folder: Path) -> None:
        runs.refuse_classifier(stored, folder)
        for key in sorted(self.cfg.keys() - {"run"}):
            runs.section(stored, key, folder)

    def check_merged(self, merged: dict[str, Any], folder: Path, allow: list[str]) -> None:
        check_types(merged, allow)
        runs.stored_data(merged, folder, [*allow, *["datasets"][: "data" in typed_groups()]])

    def prepare(self, start: Start) -> Job:
        return prepare(start.cfg, self.settings.packages, start.checkpoint, start.run)

    def name(self, cfg: dict[str, Any]) -> tuple[str, str | None]:
        preset, own = HydraConfig.get().runtime.choices.get("experiment"), self.settings.name
        return own or preset or f"{chosen('data', cfg['data'])}-{chosen('sde', cfg['sde'])}", own

    def meaning(self, job: Recorded[NetworkModel, Results]) -> str:
        return job.model.meaning

    def again(self, run: Path) -> str:
        return f"scoresde train {runs.setting(run)}"

    def objective(self, result: FitResult[NetworkModel], results: Results) -> float | None:
        best = results.objective()
        value: float | None = best if best is not None or result.best is None else result.best.value
        return value

    def closing(self, run: Path, result: FitResult[NetworkModel], results: Results) -> None:
        """Print the table of the final samples and what to type next; for a job of a sweep the table alone."""
        if sweeping():
            print(f"{results}\n", flush=True)
            return
        print(f"\ntrained to step {result.step} in {result.seconds:.0f} s; {results.n:,} samples of each sampler:\n")
        print(f"{explained(results)}\n")
        where = f"{run / 'samples'}/*.png" if results.succeeded else "none, since no sampler succeeded"
        summary = read_json(run / runs.SUMMARY, "run")
        for name in summary.keys() & {"bound"}:
            values = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in summary[name].items())
            print(f"{name:<9} {values}, on held-out data")
        if "auto_enough" in summary:
            print(f"auto      {summary['auto_enough'] or 'more than 50'} evaluations are within 1 % of 100")
        print(f"pictures  {where}\nmetrics   {run / runs.SUMMARY}\n{_next(run)}", flush=True)

    def complete(self, run: Path, steps: int) -> float | None:
        print(f"{run} is complete, with all of its {steps} steps")
        if not sweeping():
            print(f"further   {self.again(run)} trainer.steps={2 * steps}\n{_next(run)}")
        summary = read_json(run / runs.SUMMARY, "run")
        if "results" in summary:
            return Results.of_content(summary["results"], run / runs.SUMMARY).objective()
        best = summary.get("best_ratio")  # as older versions called it
        return best if isinstance(best, float) else None


def _next(run: Path) -> str:
    return f"next      scoresde sample {runs.setting(run)} sampler.steps=20"
