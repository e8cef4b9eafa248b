"""Train a classifier of noisy data of a run, for classifier guidance of its samples.

usage: scoresde classifier run=FOLDER [group=option ...] [key=value ...] [-m]

examples, where RUN is a folder made by scoresde train, on data with classes, whether its network knows them or not:
  scoresde classifier run=runs/RUN                               on the data, units and SDE of the run
  scoresde classifier run=runs/RUN out=runs/CLASSIFIER           in this folder; the same again resumes it
  scoresde classifier run=runs/RUN trainer.steps=5000 model.net.channels=64
  scoresde classifier run=runs/RUN model.net.multipliers=[1,2,2,4] model.net.attention=[-1]    of larger images
  scoresde classifier run=runs/RUN loss.times=uniform            noise levels uniform in t, as published
  scoresde classifier run=runs/RUN optimizer=adamw optimizer.lr=0.001
  scoresde classifier run=runs/RUN trainer.micro_batch=64 trainer.devices=2    in two processes, to the bits of one
  scoresde classifier run=runs/RUN trainer.precision=bf16 trainer.compile=true
  scoresde classifier run=runs/RUN seed=0,1,2 -m                 three classifiers, each with its own folder
  scoresde classifier run=runs/RUN logger=none trainer.steps=20  does everything work? a few seconds

The samples are drawn by scoresde sample run=runs/RUN classifier=runs/CLASSIFIER label=[0,1,2] guidance=2.
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import ClassifierSettings


def _work(settings: ClassifierSettings, cfg: dict[str, Any]) -> float | None:
    from scoresde.cli.classifier_run import ClassifierTraining  # imports torch

    return ClassifierTraining(settings, cfg).carry_out()


GROUPS = ("model", "loss", "optimizer", "trainer", "logger")
COMMAND = Command(__name__, __doc__, ClassifierSettings, GROUPS, _work, rank=5, keeps=True, trains=True)
