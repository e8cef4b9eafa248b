"""Tuning of a run: a progress bar, a line of result, a file beside the checkpoints."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tqdm import tqdm

from scoresde import runs
from scoresde.cli.settings import TuneArguments, TuneSettings
from scoresde.sampling.tuned import TunedRule, file_for
from scoresde.tuning import Tuning
from scoresde.tuning import tune as minimise


def tune(cfg: dict[str, Any]) -> float:
    """Tune the grid for one number of steps and keep it in the run; returns the mean error on held-out noise.

    Raises:
        InputError: something in the configuration cannot be had; nothing is written then.
    """
    settings: TuneSettings = TuneSettings.of(cfg)
    arguments, steps = TuneArguments.of(cfg["tune"]), TuneSettings.steps(cfg["sampler"])
    run = runs.load(settings.run, settings.checkpoint, settings.device, settings.weights, settings.packages)
    model = run.told(run.model, settings.label, settings.guidance)
    began, rounds = time.perf_counter(), arguments.iterations * (2 if arguments.coefficients else 1)
    with tqdm(total=rounds, desc=f"tune {steps} steps", unit="it", leave=False, disable=None) as bar:

        def on_step(_: int, error: float) -> None:
            bar.set_postfix_str(f"error {error:.3g}")
            bar.update()

        found = minimise(
            model,
            run.event_shape,
            steps,
            arguments.coefficients,
            arguments.n,
            arguments.iterations,
            arguments.batch_size,
            arguments.rate,
            settings.seed,
            arguments.fine,
            arguments.gradient,
            on_step,
        )
    seconds = time.perf_counter() - began
    file = file_for(run.path, steps)
    file.parent.mkdir(exist_ok=True)
    runs.write_text(file, _kept(run, found, seconds, settings).text())
    before, after = found.before.mean, found.after.mean
    better = f"{before / after:.1f} times smaller than the" if after < before else "no better than the"
    print(
        f"{steps} steps  mean endpoint error {after:.3g} on held-out noise, {better} {before:.3g} on {found.start}\n"
        f"cost     {found.evaluations:,} evaluations, {seconds:.0f} s\n"
        f"kept in  {file}\n"
        f"next     scoresde sample {runs.setting(run.path)} solver=tuned sampler.steps={steps}",
        flush=True,
    )
    return found.after.mean


def _kept(run: runs.Run, found: Tuning, seconds: float, settings: TuneSettings) -> TunedRule:
    coefficients = None if found.coefficients is None else found.coefficients.tolist()
    report = {
        "before": dataclasses.asdict(found.before),
        "after": dataclasses.asdict(found.after),
        "start": found.start,
        "evaluations": found.evaluations,
        "seconds": seconds,
        "checkpoint_step": run.step,
        "label": settings.label,
        "guidance": settings.guidance,
    }
    return TunedRule(repr(run.sde), found.times.tolist(), dataclasses.asdict(found.rule), coefficients, report)
