"""Say how good a run is: metrics of its samples and of its model on one page.

usage: scoresde evaluate run=FOLDER [metrics=[NAME,...]] [samples=FOLDER|FILE] [key=value ...] [-m]

Samples are drawn, or taken from samples=: a folder made by scoresde sample, or a .npz or .npy file in data units.
The result is a folder with report.html, results.csv and results.json, by default in RUN/evaluations. Those of several
runs or seeds become one table by scoresde compare folder=FOLDER.

examples, where RUN is a folder made by scoresde train:
  scoresde evaluate run=runs/RUN                                   the default metrics of 1,000 samples
  scoresde evaluate run=runs/RUN metrics=[default,distances]       also energy distance and MMD
  scoresde evaluate run=runs/RUN observation=inpaint posterior=mmps metrics=calibration   are posteriors right
  scoresde evaluate run=runs/RUN samples=runs/RUN/samples/heun-20-0-1a2b3c
  scoresde evaluate run=runs/RUN samples=mine.npz                  samples of another program, in data units
  scoresde evaluate run=runs/RUN checkpoint=best weights=raw       other weights of the same run
  scoresde evaluate run=runs/RUN label=[0,1] guidance=2 guidance_method=apg   of these classes
  scoresde evaluate run=runs/A,runs/B out=both -m                  several runs
  scoresde evaluate run=runs/RUN seed=0,1,2,3 out=seeds -m         several sets of samples
  scoresde evaluate run=runs/RUN metrics=[standard,custom] metrics.custom._target_=my.Metric allow=[my]
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import EvaluateSettings


def _work(settings: EvaluateSettings, cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.evaluate_run import evaluate  # imports torch

    return evaluate(settings, cfg)


GROUPS = ("sampler", "guidance_method", "metrics", "observation", "posterior", "logger")
COMMAND = Command(__name__, __doc__, EvaluateSettings, GROUPS, _work, rank=4, keeps=True)
