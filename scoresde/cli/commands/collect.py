"""Put the jobs of a sweep into one table, with means over seeds, and draw a metric against what was varied.

usage: scoresde collect FOLDER [metric=NAME] [keys=[NAME,...]] [out=FOLDER] [logger=wandb]

Every sweep ends with this table. Settings that differ in the seed alone are one row, with a 95 % interval; the best
come first. Jobs that failed or were stopped say why. table.csv and table.json hold all metrics; the plot shows one
metric against one key (a line), two (a heat map) or more (parallel coordinates). A folder of single runs works too.

examples, where SWEEP is a folder made with -m, and RUN one made by scoresde train:
  scoresde collect runs/SWEEP
  scoresde collect runs                                  all runs, by the settings in which they differ
  scoresde collect runs/RUN                              one run
  scoresde collect runs/SWEEP metric=loss                ranked by another number of the summaries
  scoresde collect runs/SWEEP keys=[optimizer.lr]        drawn against one key, with the best of the others
  scoresde collect runs/SWEEP keys=[sde,optimizer.lr]    against two
  scoresde collect runs/SWEEP out=tables                 where the files go
  scoresde collect runs/SWEEP logger=wandb               the table and the plot also to Weights & Biases
  scoresde collect folder=runs/SWEEP                     the same with the name of the setting
  scoresde collect runs/SWEEP --cfg job                  what would be done
"""

from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import CollectSettings


def _work(settings: CollectSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.collect_run import collect

    collect(settings, cfg)


COMMAND = Command(__name__, __doc__, CollectSettings, ("logger",), _work, rank=8)
