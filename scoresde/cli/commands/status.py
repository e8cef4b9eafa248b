"""Say how far a sweep or a run is: what is finished, runs, stopped or failed and why, and the time left.

usage: scoresde status [FOLDER] [live=true]

A job that says nothing since its process was killed is stopped; the same command as before goes on with it. The value
is what a sweeper minimises, and the time is that of training, at the speed of the newest steps.

examples, where SWEEP is a folder made with -m, and RUN one made by scoresde train:
  scoresde status                                        the newest sweep or run in runs/
  scoresde status runs/SWEEP                             a sweep
  scoresde status runs/SWEEP live=true                   redrawn until nothing runs; Ctrl-C leaves
  scoresde status runs/RUN                               one run
  scoresde status runs/RUN live=true                     how long will it take?
  scoresde status runs/SWEEP/0-seed_0                    one job of a sweep
  scoresde status /data/runs/SWEEP                       elsewhere
  scoresde status folder=runs/SWEEP                      the same with the name of the setting
  scoresde status runs/SWEEP | grep failed               what failed, and why
  scoresde status --cfg job                              what would be shown
"""

from dataclasses import dataclass
from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import Place, Settings


@dataclass(frozen=True)
class StatusSettings(Settings):
    """What is shown, and whether again and again."""

    folder: Place | None
    live: bool


def _work(settings: StatusSettings, cfg: dict[str, Any]) -> None:
    from scoresde.cli.status_run import show

    show(settings.folder, settings.live)


COMMAND = Command(__name__, __doc__, StatusSettings, (), _work, rank=8)
