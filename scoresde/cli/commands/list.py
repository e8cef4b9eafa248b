"""List what a folder holds: runs with their states and metrics, comparisons, samples, tuned grids.

usage: scoresde list [folder=FOLDER] [format=table|csv|json]

The newest come first. A run is finished, stopped (scoresde train run=FOLDER resumes it), running, converted from other
weights, empty, or broken, with the reason. A narrow terminal shows fewer columns; csv and json have all.

examples, where RUN is a folder made by scoresde train:
  scoresde list                                          everything in runs/
  scoresde list folder=runs/SWEEP                        the jobs of a sweep
  scoresde list folder=runs/RUN                          one run, its samples and its tuned grids
  scoresde list folder=runs/RUN/samples                  its samples alone
  scoresde list folder=/data/runs                        another folder
  scoresde list folder=.                                 the working directory, and folders in it
  scoresde list format=csv                               for a spreadsheet
  scoresde list format=json                              for a program
  scoresde list folder=runs/SWEEP format=csv             the metrics of a sweep
  scoresde list --cfg job                                what would be listed
"""

from dataclasses import dataclass
from typing import Any, Literal

from scoresde.cli.command import Command
from scoresde.cli.settings import Place, Settings


@dataclass(frozen=True)
class ListSettings(Settings):
    """What is listed, and how."""

    folder: Place
    format: Literal["table", "csv", "json"]


def _work(settings: ListSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.list_run import show

    show(settings.folder, settings.format)


COMMAND = Command(__name__, __doc__, ListSettings, (), _work, rank=8)
