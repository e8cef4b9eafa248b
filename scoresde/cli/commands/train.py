"""Train a score network, draw samples from it, and measure how good they are.

usage: scoresde train [group=option ...] [key=value ...] [-m]

examples:
  scoresde train                                         digits, VP SDE, U-Net: a few minutes on a laptop
  scoresde train experiment=moons                        points in the plane, under a minute
  scoresde train data=folder data.path=photos data.size=32 model.net.channels=64
  scoresde train data=array data.path=table.csv model=mlp
  scoresde train data=digits model.net.condition=class   conditioned on the class, for samples of one label
  scoresde train init=runs/RUN data=folder data.path=photos data.size=32    start from the weights of another run
  scoresde train -m sde=vp,ve,subvp seed=0,1             six trainings, each with its own folder
  scoresde train run=runs/RUN trainer.steps=7000         resume a run, and train it for longer
  scoresde train logger=none debug=tiny                  does everything work? a few seconds
  scoresde train model=custom model.net._target_=mypackage.MyNet allow=[mypackage]

The samplers used at the end are set by solver@samplers.NAME.solver=heun and samplers.NAME.steps=30, where NAME is
predictor_corrector, dpmpp_2m or dopri5.
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import TrainSettings


def _work(settings: TrainSettings, cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.train_run import Training  # imports torch

    return Training(settings, {key: value for key, value in cfg.items() if key != "name"}).carry_out()


GROUPS = ("sde", "model", "data", "loss", "optimizer", "trainer", "metrics", "logger", "samplers")
COMMAND = Command(__name__, __doc__, TrainSettings, GROUPS, _work, rank=1, keeps=True, trains=True)
