"""Average the weights of a trained run over another length of its training.

usage: scoresde ema run=FOLDER length=NUMBER [key=value ...] [-m]

The run must have been trained with trainer.ema_power=[0.05,0.1], which keeps the averages of which others are made.
A length is the width of the average as a share of the training: 0.05 forgets soon, 0.2 reaches far back.
The average is kept beside the checkpoints, and checkpoint=length-0.1 uses it.

examples, where RUN is a folder made by scoresde train:
  scoresde ema run=runs/RUN length=0.1
  scoresde ema run=runs/RUN length=0.03,0.07,0.12 -m             several
  scoresde ema run=runs/RUN length=0.05                          the last part of the training
  scoresde ema run=runs/RUN length=0.2                           more of it
  scoresde ema run=runs/RUN length=0.1 checkpoint=last           as it is without
  scoresde ema run=runs/RUN length=0.1 checkpoint=best           ending at the best checkpoint
  scoresde ema run=runs/RUN length=0.1 checkpoint=2000           or at a step that has one
  scoresde ema run=runs/RUN length=0.05,0.1 checkpoint=best -m
  scoresde ema run=runs/RUN length=0.1 'allow=[mypackage]'       for a network of your own
  scoresde ema run=runs/RUN length=0.1 --cfg job                 what would be done
"""

from dataclasses import dataclass
from typing import Any

from scoresde.cli.command import Command
from scoresde.cli.settings import Settings

_FAR = 0.05  # error of the profile above which it is worth saying what would help


@dataclass(frozen=True)
class EmaSettings(Settings):
    """The run, the length of the average, and the checkpoint at which it ends."""

    run: str
    length: float
    checkpoint: str | int


def _work(settings: EmaSettings, cfg: dict[str, Any]) -> None:
    from scoresde import runs  # torch comes with what follows
    from scoresde.training import snapshots

    run = runs.load(settings.run, settings.checkpoint, "cpu", allow=settings.packages)
    with runs.locked(run.path):
        made = snapshots.reconstruct(run.path, run.model, settings.length, str(settings.checkpoint))
    hint = "; a smaller trainer.snapshot_every would be closer" if made.error > _FAR else ""
    print(
        f"length {settings.length:g} of {made.step:,} steps, made of {made.averages} averages; "
        f"the profile of its weights is off by {made.error:.1%}{hint}\n"
        f"kept in  {made.path}\n"
        f"next     scoresde sample {runs.setting(run.path)} checkpoint={made.path.name}",
        flush=True,
    )


COMMAND = Command(__name__, __doc__, EmaSettings, (), _work, rank=5)
