"""Find the time grid with the smallest endpoint error for a run and a number of steps.

usage: scoresde tune run=FOLDER [key=value ...] [-m]

The grid is kept in the run, and solver=tuned, or grid=tuned with another solver, uses it.

examples, where RUN is a folder made by scoresde train:
  scoresde tune run=runs/RUN sampler.steps=8                   a grid of 8 steps
  scoresde tune run=runs/RUN sampler.steps=5,8,15 -m           several
  scoresde tune run=runs/RUN tune.coefficients=true            with the weights of the multistep rule
  scoresde tune run=runs/RUN tune.n=4000 tune.iterations=1000  longer, on more starts
  scoresde tune run=runs/RUN tune.batch_size=64                less memory
  scoresde tune run=runs/RUN tune.rate=0.01                    smaller steps of the optimiser
  scoresde tune run=runs/RUN checkpoint=best weights=raw       for other weights of the run
  scoresde tune run=runs/RUN seed=1                            other starts
  scoresde tune run=runs/RUN label=[0,1] guidance=2            for classes and guidance
  scoresde tune run=runs/RUN device=cuda
"""

import dataclasses
import time
from dataclasses import dataclass
from typing import Annotated, Any

from scoresde.build import TARGET, build
from scoresde.cli.command import Command
from scoresde.cli.settings import ModelSettings
from scoresde.constraints import Count, NonNegativeInt, Positive, at_least


@dataclass(frozen=True)
class TuneSettings(ModelSettings):
    """The run; its seed is that of the starts."""

    run: str


@dataclass(frozen=True)
class Steps:
    """All of a sampler that matters here."""

    steps: Annotated[int, at_least(3)]


@dataclass(frozen=True)
class TuneArguments:
    """The arguments of `scoresde.tuning.tune` that the command line has."""

    coefficients: bool
    n: Annotated[int, at_least(16)]
    iterations: NonNegativeInt
    batch_size: Count
    rate: Positive
    fine: Annotated[int, at_least(10)]
    gradient: bool


def _work(settings: TuneSettings, cfg: dict[str, Any]) -> float:
    """Tune the grid for one number of steps and keep it in the run; returns the mean error on held-out noise."""
    arguments: TuneArguments = build({TARGET: f"{__name__}.TuneArguments", **cfg["tune"]}, "tune")
    steps = build({TARGET: f"{__name__}.Steps", **cfg["sampler"]}, "sampler").steps
    from scoresde import progress, runs  # torch comes with what follows
    from scoresde.sampling.tuned import TunedRule, file_for
    from scoresde.tuning import tune

    run = settings.load(settings.run)
    model = run.conditioned(run.model, settings.label, settings.guidance)
    began, rounds = time.perf_counter(), arguments.iterations * (2 if arguments.coefficients else 1)
    with progress.bar(rounds, f"tune {steps} steps", unit="it", leave=False) as bar:

        def on_step(_: int, error: float) -> None:
            bar.set_postfix_str(f"error {error:.3g}")
            bar.update()

        found = tune(model, run.event_shape, steps, seed=settings.seed, on_step=on_step, **cfg["tune"])
    seconds = time.perf_counter() - began
    coefficients = None if found.coefficients is None else found.coefficients.tolist()
    report: dict[str, Any] = {"before": dataclasses.asdict(found.before), "after": dataclasses.asdict(found.after)}
    report |= {"start": found.start, "evaluations": found.evaluations, "seconds": seconds}
    report |= {"checkpoint_step": run.step, "label": settings.label, "guidance": settings.guidance}
    rule = TunedRule(repr(run.sde), found.times.tolist(), dataclasses.asdict(found.rule), coefficients, report)
    file = file_for(run.path, steps)
    file.parent.mkdir(exist_ok=True)
    runs.write_text(file, rule.text())
    print(
        f"{found}, {seconds:.0f} s\n"
        f"kept in  {file}\n"
        f"next     scoresde sample {runs.setting(run.path)} solver=tuned sampler.steps={steps}",
        flush=True,
    )
    return found.after.mean


COMMAND = Command(__name__, __doc__, TuneSettings, ("sampler", "tune"), _work, rank=4)
