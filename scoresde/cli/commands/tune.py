"""Find the time grid with the smallest endpoint error for a run and a number of steps.

usage: scoresde tune run=FOLDER [key=value ...] [-m]

The grid and the coefficients of solver=auto on it are kept in the run for solver=tuned; grid=tuned with another solver
takes the grid alone. How many evaluations and seconds it takes at most is said before.

examples, where RUN is a folder made by scoresde train:
  scoresde tune run=runs/RUN sampler.steps=8                   a grid of 8 steps
  scoresde tune run=runs/RUN sampler.steps=5,8,15 -m           several
  scoresde tune run=runs/RUN tune.coefficients=false           the grid alone
  scoresde tune run=runs/RUN tune.n=1000 tune.iterations=20    longer, on more starts
  scoresde tune run=runs/RUN tune.n=64                         less memory and time
  scoresde tune run=runs/RUN tune.fine=300                     a more exact reference
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
from scoresde.constraints import Fraction, NonNegative, NonNegativeInt, at_least


@dataclass(frozen=True)
class TuneSettings(ModelSettings):
    """The run and the scale of its guidance; the seed is that of the starts."""

    run: str
    guidance: NonNegative


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
    fine: Annotated[int, at_least(10)]
    radius: Fraction


def _work(settings: TuneSettings, cfg: dict[str, Any]) -> float:
    """Tune the grid for one number of steps and keep it in the run; returns the mean error on held-out noise."""
    arguments: TuneArguments = build({TARGET: f"{__name__}.TuneArguments", **cfg["tune"]}, "tune")
    steps = build({TARGET: f"{__name__}.Steps", **cfg["sampler"]}, "sampler").steps
    from scoresde import progress, runs  # torch comes with what follows
    from scoresde.sampling.pilot import PilotGrid
    from scoresde.sampling.tuned import AUTO, TunedRule, file_for
    from scoresde.tuning import planned, tune
    from scoresde.tuning.pilot import seconds_each

    run = settings.load(settings.run)
    model = run.conditioned(run.model, settings.label, settings.guidance)
    model.needs_gaussian("tune")
    most = planned(steps, **cfg["tune"])
    wait = most * seconds_each(model, run.event_shape, arguments.n)
    progress.note(f"tune: {steps} steps take up to {most:,} evaluations, about {wait:.0f} s")
    began = time.perf_counter()
    with progress.bar(most, f"tune {steps} steps", unit="evaluation", unit_scale=True, leave=False) as bar:

        def on_step(evaluations: int, error: float) -> None:
            bar.set_postfix_str(f"error {error:.3g}")
            bar.update(evaluations - bar.n)

        grid = PilotGrid(run.path)
        found = tune(model, run.event_shape, steps, grid=grid, seed=settings.seed, on_step=on_step, **cfg["tune"])
    seconds = time.perf_counter() - began
    report: dict[str, Any] = {"before": dataclasses.asdict(found.before), "after": dataclasses.asdict(found.after)}
    report |= {"gain": found.gain, "start": found.start, "evaluations": found.evaluations, "seconds": seconds}
    report |= {"checkpoint_step": run.step, "label": settings.label, "guidance": settings.guidance}
    rule = TunedRule(repr(run.sde), found.times.tolist(), AUTO, found.coefficients, report)
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


COMMAND = Command(__name__, __doc__, TuneSettings, ("sampler", "tune"), _work, rank=4, keeps=True)
